"""Photinus: the server side of a massively multiplayer game. A Rust engine, rules in Python."""

from importlib.metadata import version as _version

from .app import App
from .errors import PhotinusError, Refused
from .group import Group
from .node import Node
from .routes import Routes
from .session import Closed, Session

__version__ = _version("photinus")

__all__ = [
    "App",
    "Closed",
    "Group",
    "Node",
    "PhotinusError",
    "Refused",
    "Routes",
    "Session",
    "__version__",
]
