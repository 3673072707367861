"""A space: a place of the game that sessions are attached to."""

from __future__ import annotations

import msgspec

from ..cluster.calls import KIND_SPACE
from ..cluster.service import Service


class Space(Service):
    """A base for spaces: a service that players are in."""


Space.__photinus__ = msgspec.structs.replace(Space.__photinus__, kind=KIND_SPACE)
