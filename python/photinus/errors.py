"""The exceptions of Photinus: one small tree, split by who is at fault.

PhotinusError
    Refused             the peer: it asked for what the rules of the game do not allow
    UsageError          the caller: code or configuration that cannot work as written
        ConfigError     a configuration file, the environment, a listener's URL
        RouteError      a handler of the wrong shape, a route declared twice
        AppNotFound     what was named to the command line holds no application
        ReloadError     edited code that cannot take over the running game's data
        NoNode          something that belongs to a node was used outside of any
    CallFailed          a call to a service or space came to nothing
        CallTimeout     no answer by its deadline
        Unreachable     its node cannot be reached
        RemoteError     what was called raised
        CallMismatch    the two sides do not agree on what can be called, and with what
    ConnectionFailed    the network, or whoever is at its other end
        ConnectionLost  the connection is gone
            HandshakeRefused  the server does not take this client, or not now
            SessionLost       what was to be resumed is no more
        Kicked          the server closed it and said why
        RequestTimeout  no answer within the time given
"""

from __future__ import annotations

from typing import cast


class PhotinusError(Exception):
    """Whatever Photinus raises by itself."""


class Refused(PhotinusError):
    """A refusal that the peer is told, as its code and fields and never as a traceback.

    Raised by a handler it becomes the error answer of the request; raised by a client it is that
    answer. `fields` are whatever msgspec encodes; one named `msg` is the text for people, which is
    otherwise the code itself. The codes that Photinus uses itself stand in docs/protocol.md, 1.6.
    TypeError if the code is no name, or a field is called `code`.

    One that is raised in many places may be a class:

        class TooPoor(Refused):
            def __init__(self, missing: int) -> None:
                super().__init__("too-poor", missing=missing)
    """

    def __init__(self, code: str, /, **fields: object) -> None:
        if not isinstance(cast(object, code), str) or not code:
            raise TypeError(f"Refused takes a code, such as 'too-poor', not {code!r}")
        if "code" in fields:
            raise TypeError("Refused takes its code as the first argument; a field cannot be `code`")
        super().__init__(code)
        self.code = code
        self.fields = fields

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        return f"{self.code} ({fields})" if fields else self.code


class UsageError(PhotinusError):
    """Code or configuration that cannot work as written; the text says what was expected."""


class ConfigError(UsageError):
    """A setting is unknown or has the wrong value; the text names where it stands and its key."""


class RouteError(UsageError):
    """A handler has the wrong shape, or its route is taken or not a route at all."""


class AppNotFound(UsageError):
    """A file or module that was to hold an application does not."""


class ReloadError(UsageError):
    """What sessions hold does not fit the classes of the edited code; the text says what to do."""


class NoNode(UsageError):
    """Something that lives in a node was used where no node, or more than one, can be meant."""


class CallFailed(PhotinusError):
    """A call to a service or space came to nothing."""


class CallTimeout(CallFailed, TimeoutError):
    """The call had no answer by its deadline. It may have been executed, once, or still be."""


class Unreachable(CallFailed, ConnectionError):
    """The node that was called cannot be reached; `sent` is whether the call may have been executed."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class RemoteError(CallFailed):
    """What was called raised something else than Refused: `type` is the exception's name, `text` its text.

    Its traceback is in the log of the node where it was raised.
    """

    def __init__(self, type: str, text: str) -> None:  # noqa: A002 - it is what the attribute is called
        super().__init__(f"{type}: {text}" if text else type)
        self.type = type
        self.text = text


class CallMismatch(CallFailed):
    """A call that could not be made as written; nothing was executed, unless it is its result.

    `code` is `unknown-call` (no such class there, or no such method that is @call), `bad-arguments`
    (they cannot be encoded, or are not what the method's annotations say), `bad-result` (the method ran, and
    what it returned is not what its annotations say) or `too-large` (of either).
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class ConnectionFailed(PhotinusError):
    """A client's connection could not do what was asked of it."""


class ConnectionLost(ConnectionFailed, ConnectionError):
    """The connection ended, or could not be made; the text is the reason."""


class HandshakeRefused(ConnectionLost):
    """The server does not take this client; `code` is one of docs/protocol.md, 5.4, such as `full`.

    `retry_after` is after how many seconds it is worth trying again; None if the server did not say.
    """

    def __init__(self, code: str, retry_after: float | None = None) -> None:
        after = "" if retry_after is None else f", try again in {retry_after:g} s"
        super().__init__(f"the server refused the handshake: {code}{after}")
        self.code = code
        self.retry_after = retry_after


class SessionLost(ConnectionLost):
    """The connection was cut, and its session could not be resumed."""


class Kicked(ConnectionFailed):
    """The server ended the session and said why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RequestTimeout(ConnectionFailed, TimeoutError):
    """No answer, or nothing of what was waited for, came in time."""
