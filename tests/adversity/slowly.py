"""Clients that take their time, and the end of a connection as a bare socket sees it."""

from __future__ import annotations

import socket
import time

from tests.adversity.clients import DEADLINE

# Between two bytes: some hundred of them come in a second.
PAUSE = 0.005


def drip(client: socket.socket, data: bytes) -> None:
    """Writes a byte at a time, the last again and again, until the server ends the connection."""
    client.settimeout(PAUSE)
    deadline = time.monotonic() + DEADLINE
    at = 0
    while time.monotonic() < deadline:
        try:
            client.send(data[at : at + 1])
            at = min(at + 1, len(data) - 1)
            if not client.recv(1 << 16):
                return
        except TimeoutError:
            continue
        except ConnectionError:
            return
    raise AssertionError("the server goes on listening")


def is_over(client: socket.socket) -> bool:
    """Reads to the end, whatever comes; `True` unless there is none."""
    try:
        while client.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True
