"""A program that connects to an address as fast as it can, from another, and closes at once by a reset.

`connecting.py PORT SOURCE SECONDS`; prints how often it connected. By a reset, since otherwise each of its ports
would rest for a minute, and there are not enough of them.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

RESET = struct.pack("ii", 1, 0)


def main() -> None:
    port, source, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    end = time.monotonic() + seconds
    connected = 0
    while time.monotonic() < end:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            try:
                client.bind((source, 0))
                client.connect(("127.0.0.1", port))
            except OSError:
                continue
            connected += 1
    sys.stdout.write(f"{connected}\n")


if __name__ == "__main__":
    main()
