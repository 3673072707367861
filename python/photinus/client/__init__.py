"""The Python client: plays on a Photinus server, or on any that speaks the pomelo protocol.

async with connect("wss://play.example.com") as c:
    welcome = await c.request("login", Login("Ann"), Welcome)
    async for said in c.subscribe("said", Said):
        ...
"""

from .changes import Change, Cut, Gap, Redirected, Renewed, Resumed, Waiting
from .connection import Client, connect
from .subscription import Subscription

__all__ = [
    "Change",
    "Client",
    "Cut",
    "Gap",
    "Redirected",
    "Renewed",
    "Resumed",
    "Subscription",
    "Waiting",
    "connect",
]
