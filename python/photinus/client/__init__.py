"""The Python client: plays on a Photinus server, or on any that speaks the pomelo protocol.

async with connect("tcp://127.0.0.1:7000") as c:
    welcome = await c.request("login", Login("Ann"), Welcome)
    async for said in c.subscribe("said", Said):
        ...
"""

from .connection import Client, Subscription, connect

__all__ = ["Client", "Subscription", "connect"]
