"""How servers under measurement are started, and that the load's doors are theirs."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from bench import certificate
from bench.compression import BYTES, PAYLOADS, payloads
from bench.subjects import COMPRESSION, HANDSHAKES, MEMORY, TLS, Subject

BOTS = Path("/opt/photinus-bots")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made for a run is made in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    certificate.files.cache_clear()
    payloads.cache_clear()


def named(subjects: tuple[Subject, ...], name: str) -> Subject:
    return next(subject for subject in subjects if subject.name == name)


def test_a_listener_has_the_subject_s_scheme_and_options() -> None:
    assert named(MEMORY, "photinus-bytes-wss").command(BOTS)[-1] == "--listen=wss://127.0.0.1:0?protocol=length4"
    listener = named(COMPRESSION, "pomelo-zlib").command(BOTS)[-1]
    assert listener == "--listen=tcp://127.0.0.1:0?protocol=pomelo&compress=zlib"


def test_servers_over_tls_show_the_same_certificate() -> None:
    shown, key = certificate.files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, key)
    files = [str(shown), str(key)]
    assert named(TLS, "uvloop-ssl-joined").command(BOTS)[-2:] == files
    floor = named(HANDSHAKES, "floor").command(BOTS)
    assert floor == [str(BOTS), "bare", "--certificate", files[0], "--key", files[1]]
    environment = named(TLS, "photinus-tls").full_environment()
    assert [environment["PHOTINUS_TLS__CERTIFICATE"], environment["PHOTINUS_TLS__KEY"]] == files
    assert "PHOTINUS_TLS__KEY" not in named(TLS, "photinus-tcp").full_environment()
    assert named(TLS, "asyncio-ssl").command(BOTS)[0] == sys.executable


def testpayloads_are_a_kilobyte_and_differ() -> None:
    lines = payloads().read_text().splitlines()
    assert len(set(lines)) == PAYLOADS
    assert all(BYTES <= len(line) < BYTES * 1.15 for line in lines)
