"""How servers under measurement are started, and that the load's doors are theirs."""

from __future__ import annotations

import json
import random
import ssl
import sys
import tomllib
from pathlib import Path

import pytest

from bench import certificate, chain, proxy
from bench.compression import BYTES, PAYLOADS, payloads
from bench.subjects import COMPRESSION, FORWARD, HANDSHAKES, MEMORY, PROXY, SERVERS, TLS, Subject

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


def test_a_cluster_s_nodes_know_each_other_and_their_own_part() -> None:
    forwarding = named(FORWARD, "photinus-busy-python")
    names = chain.names((*forwarding.behind, forwarding, forwarding))
    assert names == ["world-1", "proxy-1", "proxy-2"]
    nodes = tomllib.loads(chain.CONFIG.read_text())["cluster"]["nodes"]
    assert {name: node["roles"] for name, node in nodes.items()} == {
        "world-1": ["world"],
        "proxy-1": ["proxy"],
        "proxy-2": ["proxy"],
    }
    assert len({node["link"] for node in nodes.values()}) == 3
    world = chain.joined(forwarding.behind[0], "world-1").command(BOTS)
    assert world[1:3] == ["run", str(SERVERS / "photinus_bytes.py:app")]
    assert world[3:] == ["--config", str(chain.CONFIG), "--node", "world-1", "--role", "world"]
    proxy = chain.joined(forwarding, "proxy-1").command(BOTS)
    assert proxy[:2] == [sys.executable, str(SERVERS / "photinus_proxy.py")]
    assert proxy[2:] == [*world[3:5], "--node", "proxy-1", "--role", "proxy", "tcp://127.0.0.1:0?protocol=length4"]


def test_who_is_no_node_is_left_as_it_is() -> None:
    floor = named(FORWARD, "floor")
    assert chain.names((*floor.behind, floor)) == ["", ""]
    assert chain.joined(floor, "") is floor


def test_a_proxy_is_told_what_is_behind_it_and_what_keeps_it_busy() -> None:
    uvloop = chain.told(named(PROXY, "uvloop-half-busy"), 7001, 0)
    assert uvloop.arguments == ("7001", "--zlib")
    assert uvloop.environment == {"BENCH_BUSY": "loop 0.02 0.01"}
    routed = chain.told(named(PROXY, "photinus-routed"), 7001, 0)
    assert routed.environment["BENCH_UPSTREAM"] == "7001"
    apart = chain.told(named(FORWARD, "uvloop-busy-python"), 7001, 3)
    assert apart.environment == {"BENCH_BUSY": "thread", "BENCH_BUSY_CPU": "3"}
    assert chain.told(named(FORWARD, "uvloop"), 7001, 0).environment == {}


def test_the_steps_of_a_ramp_have_names_of_their_own() -> None:
    shapes = proxy.shapes()
    assert (shapes[0], shapes[5], shapes[-1]) == ("0", "1600", "0-down")
    assert len(set(shapes)) == len(proxy.RAMP)
    assert sum(shape.endswith("-down") for shape in shapes) == 3


def test_answers_of_the_world_are_some_600_bytes() -> None:
    for number in range(20):
        text = proxy.answer(random.Random(number))
        json.loads(text)
        assert 540 <= len(text) < 660
