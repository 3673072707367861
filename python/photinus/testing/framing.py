"""The clients' side of the protocols that have packets and nothing more: `length4` and `firefly`."""

from __future__ import annotations

from typing import Protocol as Interface

from msgspec import Struct


class Packet(Struct, frozen=True):
    """One packet from the server."""

    body: bytes
    command: int = 0


class Framing(Interface):
    """Packets to bytes and back."""

    def frame(self, packet: Packet) -> bytes: ...

    def take(self, data: bytearray) -> Packet | None:
        """Removes the first packet from `data`, if it is whole."""
        ...


class Length4:
    """u32 length, big-endian | payload."""

    def frame(self, packet: Packet) -> bytes:
        return len(packet.body).to_bytes(4, "big") + packet.body

    def take(self, data: bytearray) -> Packet | None:
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) < max(4, end):
            return None
        body = bytes(data[4:end])
        del data[:end]
        return Packet(body)


class Firefly:
    """Four magic bytes | u8 protocol version | u32 server version | u32 length + 4 | u32 command | payload."""

    def frame(self, packet: Packet) -> bytes:
        length, command = len(packet.body) + 4, packet.command
        return bytes(9) + length.to_bytes(4, "big") + command.to_bytes(4, "big") + packet.body

    def take(self, data: bytearray) -> Packet | None:
        end = 13 + int.from_bytes(data[9:13], "big")
        if len(data) < max(17, end):
            return None
        packet = Packet(bytes(data[17:end]), int.from_bytes(data[13:17], "big"))
        del data[:end]
        return packet


FRAMINGS: dict[str, type[Length4 | Firefly]] = {"length4": Length4, "firefly": Firefly}
