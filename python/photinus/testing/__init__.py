"""The test kit: a node without sockets, clients in memory, and time that only the test moves.

async with TestCluster(app) as t:
    ann = await t.connect()
    welcome = await ann.request("login", Login("Ann"), Welcome)
    await t.advance(0.1)
"""

from .clients import PhotinusClient, PlainClient, Player, PomeloClient
from .cluster import TestCluster

__all__ = ["PhotinusClient", "PlainClient", "Player", "PomeloClient", "TestCluster"]
