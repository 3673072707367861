"""Compression as clients do it, by libraries that the server does not use."""

from __future__ import annotations

import zlib
from pathlib import Path

import cramjam
import zstandard

TRAINED = Path(__file__).parent.parent / "wire" / "game.dictionary"
_DICTIONARY = zstandard.ZstdCompressionDict(TRAINED.read_bytes())

NUMBERS = {"zlib": 1, "snappy": 2, "zstd": 3, "trained": 3}
"""What each is in a photinus handshake; `trained` is zstd with the dictionary."""


def hello(algorithm: str) -> bytes:
    """The fields of a photinus client that has this one."""
    fields = b"\x01\x01\x01"
    if algorithm:
        fields += b"\x03\x01" + bytes([NUMBERS[algorithm]])
    if algorithm == "trained":
        fields += b"\x04\x04" + _DICTIONARY.dict_id().to_bytes(4, "big")
    return fields


def compress(algorithm: str, body: bytes) -> bytes:
    match algorithm:
        case "zlib":
            return zlib.compress(body)
        case "snappy":
            return bytes(cramjam.snappy.compress_raw(body))
        case "zstd":
            return zstandard.ZstdCompressor().compress(body)
        case _:
            return zstandard.ZstdCompressor(dict_data=_DICTIONARY).compress(body)


def inflate(algorithm: str, body: bytes) -> bytes:
    match algorithm:
        case "zlib":
            return zlib.decompress(body)
        case "snappy":
            return bytes(cramjam.snappy.decompress_raw(body))
        case "zstd":
            return zstandard.ZstdDecompressor().decompress(body)
        case _:
            return zstandard.ZstdDecompressor(dict_data=_DICTIONARY).decompress(body)


def without_its_size(body: bytes) -> bytes:
    """A frame of zstd's, as it is written by whoever does not know how much comes."""
    writer = zstandard.ZstdCompressor().compressobj()
    return writer.compress(body) + writer.flush()
