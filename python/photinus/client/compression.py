"""Compression of payloads (docs/protocol.md, 5.7): zlib always, zstd where a module for it is installed."""

from __future__ import annotations

import importlib
import zlib
from abc import ABC, abstractmethod
from typing import Any

from .frames import Fault

ZLIB, ZSTD = 1, 3
# The server's: what higher levels save is not worth its time (docs/decisions.md).
ZLIB_LEVEL = ZSTD_LEVEL = 1


class Algorithm(ABC):
    @abstractmethod
    def compress(self, body: bytes) -> bytes: ...

    @abstractmethod
    def inflate(self, body: bytes, limit: int) -> bytes:
        """At most `limit` bytes; Fault `too-long` as soon as there is more, or `bad-compression`."""


class Zlib(Algorithm):
    def compress(self, body: bytes) -> bytes:
        return zlib.compress(body, ZLIB_LEVEL)

    def inflate(self, body: bytes, limit: int) -> bytes:
        stream = zlib.decompressobj()
        try:
            plain = stream.decompress(body, limit + 1)
        except zlib.error as error:
            raise _bad(str(error)) from error
        if len(plain) > limit:
            raise _too_long(limit)
        if not stream.eof or stream.unused_data:
            raise _bad("it is cut short, or something is behind its end")
        return plain


class Zstd(Algorithm):
    """With the interface of `compression.zstd` in Python 3.14, or of its twin for older ones, `backports.zstd`."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def compress(self, body: bytes) -> bytes:
        packed: bytes = self._module.compress(body, ZSTD_LEVEL)
        return packed

    def inflate(self, body: bytes, limit: int) -> bytes:
        stream = self._module.ZstdDecompressor()
        try:
            plain: bytes = stream.decompress(body, limit + 1)
            # It may give less at once than it could, and has more only while it does not ask for input.
            while not stream.eof and not stream.needs_input and len(plain) <= limit:
                plain += stream.decompress(b"", limit + 1 - len(plain))
        except self._module.ZstdError as error:
            raise _bad(str(error)) from error
        if len(plain) > limit:
            raise _too_long(limit)
        if not stream.eof or stream.unused_data:
            raise _bad("it is cut short, or something is behind its end")
        return plain


def available() -> dict[int, Algorithm]:
    """By their numbers in a handshake."""
    algorithms: dict[int, Algorithm] = {ZLIB: Zlib()}
    for name in ("compression.zstd", "backports.zstd"):
        try:
            algorithms[ZSTD] = Zstd(importlib.import_module(name))
        except ImportError:
            continue
        break
    return algorithms


def _bad(why: str) -> Fault:
    return Fault("bad-compression", f"a payload cannot be inflated: {why}")


def _too_long(limit: int) -> Fault:
    return Fault("too-long", f"a compressed payload has more than {limit} bytes")
