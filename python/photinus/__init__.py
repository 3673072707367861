"""Photinus: the server side of a massively multiplayer game. A Rust engine, rules in Python."""

from importlib.metadata import version as _version

from .app import App
from .errors import PhotinusError, Refused
from .group import Group
from .hooks import Call, Outcome
from .node import Node
from .routes import Rate, Routes
from .session import Closed, Session

__version__ = _version("photinus")

__all__ = [
    "App",
    "Call",
    "Closed",
    "Group",
    "Node",
    "Outcome",
    "PhotinusError",
    "Rate",
    "Refused",
    "Routes",
    "Session",
    "__version__",
]
