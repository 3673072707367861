"""What payloads are compressed with (docs/protocol.md, 5.7), once more: see reference.py.

zlib is the standard library's. Of zstd there are only frames of raw and repeated blocks here, which vectors can be
written in by hand.
"""

from __future__ import annotations

import zlib

from tests.wire.reading import WireError


def inflate(algorithm: str, data: bytes, limit: int) -> bytes:
    """At most `limit` bytes; WireError `too-long` or `bad-compression`."""
    try:
        return {"zlib": _zlib, "snappy": _snappy, "zstd": _zstd}[algorithm](data, limit)
    except (IndexError, zlib.error):
        raise WireError("bad-compression") from None


def _zlib(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    plain = stream.decompress(data, limit + 1)
    if len(plain) > limit:
        raise WireError("too-long")
    if not stream.eof or stream.unused_data:
        raise WireError("bad-compression")
    return plain


def _snappy(data: bytes, limit: int) -> bytes:
    at = length = 0
    while True:
        digit = data[at]
        length |= (digit & 127) << 7 * at
        at += 1
        if digit < 128:
            break
        if at == 5:
            raise WireError("bad-compression")
    if length > limit:
        raise WireError("too-long")
    plain = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            size, extra = tag >> 2, max(0, (tag >> 2) - 59)
            if extra:
                size = int.from_bytes(data[at : at + extra], "little")
            at += extra
            plain += _exactly(data, at, size + 1)
            at += size + 1
        else:
            extra = (0, 1, 2, 4)[tag & 3]
            offset = int.from_bytes(_exactly(data, at, extra), "little")
            size = (tag >> 2) + 1
            if extra == 1:
                offset, size = offset | tag >> 5 << 8, 4 + (tag >> 2 & 7)
            at += extra
            if not 0 < offset <= len(plain):
                raise WireError("bad-compression")
            for _ in range(size):
                plain.append(plain[-offset])
        if len(plain) > length:
            raise WireError("bad-compression")
    if len(plain) != length:
        raise WireError("bad-compression")
    return bytes(plain)


def _zstd(data: bytes, limit: int) -> bytes:
    if data[:4] != b"\x28\xb5\x2f\xfd":
        raise WireError("bad-compression")
    descriptor = data[4]
    if descriptor not in (0x00, 0x20):
        raise NotImplementedError(f"zstd's frame descriptor {descriptor:#x}")
    # One byte follows: the window's size, or that of the whole frame.
    size = data[5] if descriptor else None
    if size is not None and size > limit:
        raise WireError("too-long")
    at, plain, last = 6, bytearray(), 0
    while not last:
        head = int.from_bytes(_exactly(data, at, 3), "little")
        at += 3
        last, kind, length = head & 1, head >> 1 & 3, head >> 3
        if kind > 1:
            raise NotImplementedError(f"a zstd block of kind {kind}")
        if len(plain) + length > limit:
            raise WireError("too-long")
        block = _exactly(data, at, length if kind == 0 else 1)
        at += len(block)
        plain += block if kind == 0 else block * length
    if at != len(data) or (size is not None and size != len(plain)):
        raise WireError("bad-compression")
    return bytes(plain)


def _exactly(data: bytes, at: int, size: int) -> bytes:
    if len(data) < at + size:
        raise WireError("bad-compression")
    return data[at : at + size]
