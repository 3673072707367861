"""HTTP for the playground's page: some small answers, and one stream of events; on loopback.

One request a connection, GET alone. What a page of somebody else's could do is kept from it: the Host must be
this server's own (a name that was made to point here, DNS rebinding, is another), and the policies sent
with every answer let the page load nothing but its own files, and nobody else load those.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus

import h11
from msgspec import Struct

# A browser's head is below 4 KB; cookies of other servers of this machine come along.
MAX_HEAD_BYTES = 32 * 1024
# From the connection to the end of the head. Browsers open connections ahead of their need, and do without.
HEAD_SECONDS = 10.0
# A browser has six to one server, and each page one for its events.
MAX_CONNECTIONS = 64
# Events that a page has not read, some hundred of them; one that is further behind connects again.
MAX_UNREAD_BYTES = 1 << 20
READ_BYTES = 1 << 16

EVENTS = "/events"


class Answer(Struct, frozen=True):
    content_type: str
    body: bytes


class _Refusal(Exception):
    def __init__(self, status: HTTPStatus, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class Server:
    """`answers` gives what is at a path, None for nothing; `host` is what a request's Host must be, and `connects_to`
    the origin beside it that the page may connect to."""

    def __init__(self, answers: Callable[[str], Answer | None], host: str, connects_to: str) -> None:
        self._answers = answers
        self._host = host
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            f"connect-src 'self' {connects_to}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'"
        )
        self._headers = (
            ("Content-Security-Policy", policy),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            # Always the files of the Photinus that runs.
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        )
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._streams: dict[asyncio.StreamWriter, h11.Connection] = {}
        self._told = b""

    async def start(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_server(self._converse, sock=listening)

    def tell(self, message: bytes) -> None:
        """Sends this, one line, to everyone who reads the events, and the last of it to whoever comes later."""
        self._told = message
        for writer, connection in tuple(self._streams.items()):
            self._send_event(writer, connection)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._writers.add(writer)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        try:
            await self._handle(reader, writer, connection)
            await writer.drain()
        except (ConnectionError, TimeoutError):
            # Who has asked is gone, or never did ask.
            pass
        finally:
            self._writers.discard(writer)
            self._streams.pop(writer, None)
            writer.close()

    async def _handle(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: h11.Connection
    ) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                request = await _request(reader, connection)
            if request is None:
                return
            path = self._path(request)
            if path == EVENTS:
                await self._stream(reader, writer, connection)
                return
            answer = self._answer(path)
        except _Refusal as refusal:
            self._write(writer, connection, refusal.status, _text(refusal), refusal.headers)
        except h11.RemoteProtocolError as error:
            self._write(writer, connection, HTTPStatus(error.error_status_hint), _text(error))
        else:
            self._write(writer, connection, HTTPStatus.OK, answer)

    def _answer(self, path: str) -> Answer:
        answer = self._answers(path)
        if answer is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, f"there is no {path} here")
        return answer

    def _path(self, request: h11.Request) -> str:
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        hosts = [value.decode("ascii", "replace") for name, value in request.headers if name == b"host"]
        if hosts == [f"localhost:{self._host.rpartition(':')[2]}"]:
            # The listener takes one origin.
            where = (("Location", f"http://{self._host}/"),)
            raise _Refusal(HTTPStatus.TEMPORARY_REDIRECT, f"the page is at http://{self._host}/", where)
        if hosts != [self._host]:
            raise _Refusal(HTTPStatus.MISDIRECTED_REQUEST, f"this is http://{self._host}/, and nothing else")
        if request.method != b"GET":
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET", (("Allow", "GET"),))
        return path

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: h11.Connection
    ) -> None:
        headers = [*self._headers, ("Content-Type", "text/event-stream")]
        writer.write(connection.send(h11.Response(status_code=HTTPStatus.OK, headers=headers)) or b"")
        self._streams[writer] = connection
        self._send_event(writer, connection)
        # Nothing more is said by the browser until it goes.
        while await reader.read(READ_BYTES):
            pass

    def _send_event(self, writer: asyncio.StreamWriter, connection: h11.Connection) -> None:
        if writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            writer.transport.abort()
        elif not writer.is_closing():
            writer.write(connection.send(h11.Data(data=b"data: " + self._told + b"\n\n")) or b"")

    def _write(
        self,
        writer: asyncio.StreamWriter,
        connection: h11.Connection,
        status: HTTPStatus,
        answer: Answer,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        head = [
            *self._headers,
            *headers,
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
        ]
        for event in (
            h11.Response(status_code=status, reason=status.phrase.encode(), headers=head),
            h11.Data(data=answer.body),
            h11.EndOfMessage(),
        ):
            writer.write(connection.send(event) or b"")


async def _request(reader: asyncio.StreamReader, connection: h11.Connection) -> h11.Request | None:
    """The head of the one request; None if nobody asks. h11.RemoteProtocolError if it is no HTTP, or too long."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Request):
            return event
        else:
            return None


def _text(error: Exception) -> Answer:
    return Answer("text/plain; charset=utf-8", f"{error}\n".encode())
