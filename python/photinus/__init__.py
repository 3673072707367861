"""Photinus: the server side of a massively multiplayer game. A Rust engine, rules in Python."""

from importlib.metadata import version as _version

from .app import App
from .cluster.service import Service, call, on
from .errors import (
    CallFailed,
    CallMismatch,
    CallTimeout,
    PhotinusError,
    Refused,
    RemoteError,
    Unreachable,
)
from .group import Group
from .hooks import Call, Outcome
from .node import Node
from .routes import Rate, Routes
from .session import Address, Closed, Session, SessionRef
from .space.space import Space

__version__ = _version("photinus")

__all__ = [
    "Address",
    "App",
    "Call",
    "CallFailed",
    "CallMismatch",
    "CallTimeout",
    "Closed",
    "Group",
    "Node",
    "Outcome",
    "PhotinusError",
    "Rate",
    "Refused",
    "RemoteError",
    "Routes",
    "Service",
    "Session",
    "SessionRef",
    "Space",
    "Unreachable",
    "__version__",
    "call",
    "on",
]
