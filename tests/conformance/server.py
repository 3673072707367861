"""What Autobahn talks to: a node that answers each message of a WebSocket with the same, through the public API.

It tells its address in a line, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

from photinus import App, Node, Routes, Session
from photinus.config import Config, Limits
from photinus.node import run

LISTEN = "ws://127.0.0.1:0?protocol=plain&deflate=1"
# The longest messages of Autobahn (9.1.6, 9.2.6) have 16 MiB, and as much may wait for a reader. What it sends in
# a second no player does.
LIMITS = Limits(
    max_payload=16 << 20,
    outbound_session_bytes=64 << 20,
    session_packets_per_s=0,
    session_bytes_per_s=0,
)

routes = Routes()


@routes.default
def echo(session: Session, body: bytes) -> bytes:
    return body


async def main(node: Node) -> None:
    sys.stdout.write(f"{node.addresses[0]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    run(App("echo", routes=[routes]), main, listen=[LISTEN], config=Config(limits=LIMITS))
