"""The certificate that listeners of `tls` and `wss` show: read from files, and read again when they change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from .config import TlsSection
from .errors import ConfigError

# How often the files are looked at. Certificates are renewed days before they end.
LOOK_SECONDS = 10.0

_log = logging.getLogger("photinus")


class Shows(Protocol):
    """What certificates are for: the engine."""

    def set_certificates(
        self,
        certificate: bytes,
        key: bytes,
        *,
        client_ca: bytes | None = None,
        client_required: bool = False,
        node_ca: bytes | None = None,
    ) -> None: ...


class Certificates:
    """The files of `[tls]`, and when they were last read. With `links`, nodes of the cluster show each other the same
    certificate, and take those of the authorities in client_ca."""

    def __init__(self, section: TlsSection, engine: Shows, *, links: bool = False) -> None:
        self._links = links
        self._section = section
        self._engine = engine
        self._seen: tuple[float, ...] = ()
        self.reloads = 0
        """Times that changed files were taken."""
        self.errors = 0
        """Times that changed files were of no use; those from before were kept."""

    @property
    def given(self) -> bool:
        return self._section.certificate is not None

    def load(self) -> None:
        """Has new connections shown what the files hold; ConfigError says which file is wrong, and how."""
        section = self._section
        if section.certificate is None or section.key is None:
            if section != TlsSection():
                raise ConfigError("[tls] expected both certificate and key")
            return
        asks = section.client != "none"
        if (asks or not self._links) and asks != (section.client_ca is not None):
            raise ConfigError("[tls] client_ca goes with client = 'optional' or 'required'")
        seen = self._times()
        client_ca = None if section.client_ca is None else _read("client_ca", section.client_ca)
        try:
            self._engine.set_certificates(
                _read("certificate", section.certificate),
                _read("key", section.key),
                client_ca=client_ca if asks else None,
                client_required=section.client == "required",
                node_ca=client_ca if self._links else None,
            )
        except ValueError as error:
            raise ConfigError(f"[tls] {section.certificate}, {section.key}: {error}") from None
        self._seen = seen

    def look(self) -> None:
        """Takes the files again if they have changed. What is wrong with them is logged, and the
        certificate from before is kept."""
        times = self._times()
        if not self.given or times == self._seen:
            return
        # Half-written files are complained of once, and looked at again when they are whole.
        self._seen = times
        try:
            self.load()
        except ConfigError as error:
            self.errors += 1
            _log.error("certificates were not renewed: %s", error)
        else:
            self.reloads += 1
            _log.info("certificates were renewed from %s", self._section.certificate)

    def _times(self) -> tuple[float, ...]:
        files = (self._section.certificate, self._section.key, self._section.client_ca)
        return tuple(_time(file) for file in files if file is not None)


def _read(key: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"[tls] {key} = {str(file)!r}: cannot be read: {error.strerror}") from error


def _time(file: Path) -> float:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
