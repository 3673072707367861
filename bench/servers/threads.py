"""An echo server with a thread a connection, blocking, one write a frame."""

from __future__ import annotations

import socket
import threading

HEADER = 4
# The default of 8 MB is address space only, but a thousand of them are refused by some limits.
STACK_BYTES = 256 * 1024


def serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begun = b""
    with connection:
        try:
            while data := connection.recv(65536):
                data = begun + data if begun else data
                start, end = 0, len(data)
                while end - start >= HEADER:
                    stop = start + HEADER + int.from_bytes(data[start : start + HEADER], "big")
                    if stop > end:
                        break
                    connection.sendall(data[start:stop])
                    start = stop
                begun = data[start:]
        except ConnectionError:
            return


def main() -> None:
    threading.stack_size(STACK_BYTES)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(f"ready tcp://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
