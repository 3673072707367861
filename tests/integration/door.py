"""Lets a test in one network reach servers in another: run there with a listening socket of the test's for each port.

    python door.py DESCRIPTOR PORT [DESCRIPTOR PORT …]

Every connection to the socket goes on to that port of this machine. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys


async def main(arguments: list[int]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    for descriptor, port in zip(arguments[::2], arguments[1::2], strict=True):
        await _open(socket.socket(fileno=descriptor), port)
    await reader.read()


async def _open(listener: socket.socket, port: int) -> None:
    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_carry(reader, outer), _carry(inner, writer))

    await asyncio.start_server(guest, sock=listener)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


if __name__ == "__main__":
    asyncio.run(main([int(argument) for argument in sys.argv[1:]]))
