"""The arithmetic of the benchmarks: what is compared with what, and what is chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from pathlib import Path

import pytest

from bench import dev, proxy
from bench.counters import engine_figures
from bench.forward import over_idle
from bench.goals import GOALS, Goal
from bench.load import LoadFailed
from bench.plan import Plan, rotated
from bench.results import UNITS, Results
from bench.subjects import (
    BROADCAST,
    CALL,
    COMPRESSION,
    ECHO,
    FORWARD,
    HANDSHAKES,
    MEMORY,
    MULTICAST,
    PACE,
    PROXY,
    RESUME,
    TLS,
    WEBSOCKET,
)


def test_ratios_are_taken_within_a_round() -> None:
    results = Results()
    # The host is twice as slow in the second round: the medians alone would say 1.5.
    for round_, (floor, subject) in enumerate([(1.0, 1.2), (2.0, 2.4), (1.0, 1.2)]):
        results.add("echo", "floor", "50x1", round_, {"cpu_us": floor})
        results.add("echo", "photinus-native-led", "50x1", round_, {"cpu_us": subject})
    results.compare()
    assert results.value("echo", "photinus-native-led", "50x1", "cpu_ratio") == pytest.approx(1.2)
    assert results.value("echo", "floor", "50x1", "cpu_ratio") is None


def test_a_round_that_one_of_a_pair_missed_is_not_compared() -> None:
    results = Results()
    results.add("echo", "floor", "50x1", 0, {"cpu_us": 1.0})
    results.add("echo", "uvloop", "50x1", 0, {"cpu_us": 2.0})
    results.add("echo", "uvloop", "50x1", 1, {"cpu_us": 9.0})
    results.compare()
    assert results.value("echo", "uvloop", "50x1", "cpu_ratio") == 2.0


def test_a_door_is_compared_with_the_plain_one_in_the_same_round() -> None:
    results = Results()
    for round_, (plain, door) in enumerate([(1.0, 2.0), (2.0, 4.0), (9.0, 9.0)]):
        results.add("tls", "photinus-tcp", "50x16", round_, {"cpu_us": plain, "python_us": plain})
        results.add("tls", "photinus-tls", "50x16", round_, {"cpu_us": door, "python_us": plain})
    results.compare()
    assert results.value("tls", "photinus-tls", "50x16", "cpu_over_plain") == 2.0
    assert results.value("tls", "photinus-tls", "50x16", "python_over_plain") == 1.0
    assert results.value("tls", "photinus-tcp", "50x16", "cpu_over_plain") is None


def test_echoes_over_tls_are_compared_with_the_better_one() -> None:
    results = Results()
    results.add("tls", "photinus-tls", "50x16", 0, {"echoes_per_s": 100.0})
    results.add("tls", "asyncio-ssl-joined", "50x16", 0, {"echoes_per_s": 20.0})
    results.add("tls", "uvloop-ssl-joined", "50x16", 0, {"echoes_per_s": 25.0})
    results.add("tls", "uvloop-ssl", "50x16", 0, {"echoes_per_s": 10.0})
    results.compare()
    assert results.value("tls", "photinus-tls", "50x16", "echoes_over_joined") == 4.0
    # One of the two is missing: what is better is not known.
    assert results.value("tls", "photinus-tls", "50x16", "echoes_over_each") is None


def test_handshakes_are_compared_with_the_bare_loop() -> None:
    results = Results()
    results.add("handshakes", "floor", "storm", 0, {"handshakes_per_s": 4000.0})
    results.add("handshakes", "photinus-bytes", "storm", 0, {"handshakes_per_s": 3000.0})
    results.compare()
    assert results.value("handshakes", "photinus-bytes", "storm", "handshakes_ratio") == 0.75


def test_slow_readers_are_compared_with_none_in_the_same_round() -> None:
    results = Results()
    for round_, (calm, slow) in enumerate([(100, 150), (200, 300), (1000, 900)]):
        results.add("readers", "photinus-bytes", "calm", round_, {"p99_us": float(calm)})
        results.add("readers", "photinus-bytes", "slow", round_, {"p99_us": float(slow)})
    results.compare()
    assert results.value("readers", "photinus-bytes", "slow", "p99_over_calm") == 1.5
    assert results.value("readers", "photinus-bytes", "calm", "p99_over_calm") is None


def test_forwarding_is_compared_with_the_c_program() -> None:
    results = Results()
    for round_, (floor, own) in enumerate([(1.0, 1.4), (2.0, 2.8), (1.0, 1.4)]):
        results.add("forward", "floor", "50x1", round_, {"proxy_cpu_us": floor})
        results.add("forward", "photinus", "50x1", round_, {"proxy_cpu_us": own})
    results.compare()
    assert results.value("forward", "photinus", "50x1", "proxy_cpu_ratio") == pytest.approx(1.4)


def test_a_busy_python_is_compared_turn_by_turn() -> None:
    idle = [{"p99_us": 100.0, "packets_per_s": 10.0}, {"p99_us": 50.0, "packets_per_s": 20.0}, {"packets_per_s": 30.0}]
    busy = [{"p99_us": 110.0, "packets_per_s": 9.0}, {"p99_us": 50.0, "packets_per_s": 18.0}, {"packets_per_s": 30.0}]
    assert over_idle(busy, idle) == {"packets_over_idle": 0.9, "p99_over_idle": pytest.approx(1.05)}


def _step(users: int, p99_ms: float, idle: float) -> proxy.Step:
    report = {"p99_us": p99_ms * 1e3, "bundles": users * 10, "seconds": 1.0}
    return proxy.Step(users, report, 0.0, idle, None)


def test_a_proxy_holds_what_it_held_before_three_steps_in_a_row_were_felt() -> None:
    told = [_step(800, 1, 0.9), _step(1000, 60, 0.02), _step(1250, 3, 0.6), _step(1500, 70, 0.5), _step(1900, 80, 0.01)]
    assert proxy.most_held(iter([*told, _step(2400, 90, 0.0), _step(3000, 1, 0.5)])) == (1250, False)
    assert proxy.most_held(iter(told[:3])) == (1250, True)
    assert proxy.most_held(iter(told[:2])) == (800, True)
    assert proxy.most_held(iter([_step(800, 60, 0.5)] * 3)) == (0, False)


def test_a_load_that_fails_ends_the_ladder_if_the_last_step_was_felt() -> None:
    def steps(*told: proxy.Step) -> Generator[proxy.Step]:
        yield from told
        raise LoadFailed("4 users were not let in")

    assert proxy.most_held(steps(_step(800, 1, 0.9), _step(1000, 60, 0.3))) == (800, False)
    with pytest.raises(LoadFailed):
        proxy.most_held(steps(_step(800, 1, 0.9)))


def test_proxies_are_compared_with_uvloop_and_a_native_one() -> None:
    results = Results()
    for subject, cost, gil in (("uvloop", 300.0, 300.0), ("native", 120.0, None), ("photinus", 150.0, 0.0)):
        results.add("proxy", subject, "1600", 0, {"cpu_us_per_user_s": cost})
        if gil is not None:
            results.add("proxy", subject, "1600", 0, {"gil_us": gil})
    for subject, users in (("uvloop", 4000.0), ("photinus", 9000.0), ("uvloop-half-busy", 800.0)):
        results.add("proxy", subject, "held", 0, {"users_held": users})
    results.add("proxy", "photinus-half-busy", "held", 0, {"users_held": 8000.0})
    results.compare()
    assert results.value("proxy", "photinus", "1600", "cpu_over_uvloop_proxy") == 0.5
    assert results.value("proxy", "photinus", "1600", "cpu_over_native") == 1.25
    assert results.value("proxy", "photinus", "1600", "gil_over_uvloop") == 0.0
    assert results.value("proxy", "photinus", "held", "users_over_uvloop") == 2.25
    assert results.value("proxy", "photinus-half-busy", "held", "users_over_uvloop") == 10.0


def test_members_on_proxies_are_compared_with_local_ones_and_disturbed_calls_with_calm_ones() -> None:
    results = Results()
    results.add("multicast", "local", "1000x1", 0, {"cpu_us": 2.0})
    results.add("multicast", "photinus", "1000x1", 0, {"cpu_us": 2.1})
    for shape, p99 in (("1", 100.0), ("saturated", 150.0), ("stuck", 120.0), ("64", 900.0)):
        results.add("call", "photinus", shape, 0, {"p99_us": p99})
    results.compare()
    assert results.value("multicast", "photinus", "1000x1", "cpu_over_local") == pytest.approx(1.05)
    assert results.value("call", "photinus", "saturated", "p99_over_calm") == 1.5
    assert results.value("call", "photinus", "stuck", "p99_over_calm") == 1.2
    assert results.value("call", "photinus", "64", "p99_over_calm") is None


def test_async_is_compared_with_def() -> None:
    results = Results()
    results.add("echo", "photinus-native-led", "50x16", 0, {"python_us": 0.1})
    results.add("echo", "photinus-async", "50x16", 0, {"python_us": 0.25})
    results.compare()
    assert results.value("echo", "photinus-async", "50x16", "python_over_bytes_us") == pytest.approx(0.15)


def test_tails_are_compared_by_their_medians() -> None:
    results = Results()
    for round_, (floor, uvloop, native, own) in enumerate([(50, 80, 60, 66), (50, 90, 900, 66), (700, 90, 60, 900)]):
        named = {"floor": floor, "uvloop": uvloop, "photinus-native-led": native, "photinus-bytes": own}
        for subject, p99 in named.items():
            results.add("echo", subject, "open20k", round_, {"p99_us": float(p99)})
    results.compare()
    assert results.value("echo", "photinus-bytes", "open20k", "p99_ratio") == pytest.approx(66 / 50)
    assert results.value("echo", "photinus-bytes", "open20k", "p99_over_best") == pytest.approx(66 / 60)


def test_the_file_holds_medians_with_units(tmp_path: Path) -> None:
    results = Results()
    for round_, value in enumerate([5.0, 1.0, 3.0]):
        results.add("echo", "floor", "1x1", round_, {"p50_us": value})
    results.write(tmp_path / "build" / "bench.json")
    assert json.loads((tmp_path / "build" / "bench.json").read_text()) == [
        {"row": "echo", "subject": "floor", "shape": "1x1", "metric": "p50_us", "value": 3.0, "unit": "us"}
    ]


def test_a_metric_without_a_unit_is_refused() -> None:
    with pytest.raises(KeyError, match="furlongs"):
        Results().add("echo", "floor", "1x1", 0, {"furlongs": 1.0})


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*", True),
        ("echo", True),
        ("echo/50x*", True),
        ("echo/50x16/uvloop*", True),
        ("broadcast", False),
        ("echo/1000x1", False),
        ("echo/50x16/photinus-*", False),
    ],
)
def test_a_pattern_chooses_rows_shapes_and_subjects(pattern: str, wanted: bool) -> None:
    plan = Plan(Path("photinus-bots"), pattern)
    assert plan.wants("echo", "50x16", "uvloop-joined") is wanted


def test_the_floor_is_always_measured_beside_what_is_chosen() -> None:
    plan = Plan(Path("photinus-bots"), "echo/50x16/uvloop")
    assert [subject.name for subject in plan.chosen("echo", ["50x16"], ECHO)] == ["floor", "uvloop"]
    assert Plan(Path("photinus-bots"), "echo/50x16/nobody").chosen("echo", ["50x16"], ECHO) == []


def test_the_plain_door_is_always_measured_beside_another() -> None:
    plan = Plan(Path("photinus-bots"), "tls/50x16/photinus-tls")
    assert [subject.name for subject in plan.chosen("tls", ["50x16"], TLS)] == ["photinus-tcp", "photinus-tls"]


def test_each_subject_comes_first_in_turn() -> None:
    assert {rotated(ECHO, by)[0].name for by in range(len(ECHO))} == {subject.name for subject in ECHO}


def test_every_goal_is_of_something_measured() -> None:
    subjects = {"tasks": ECHO, "echo": ECHO, "pace": PACE, "broadcast": BROADCAST, "memory": MEMORY}
    subjects |= {"tls": TLS, "websocket": WEBSOCKET, "handshakes": HANDSHAKES}
    subjects |= {"compression": COMPRESSION, "resume": RESUME, "readers": BROADCAST}
    subjects |= {"forward": FORWARD, "proxy": PROXY, "multicast": MULTICAST, "call": CALL}
    names = {row: {subject.name for subject in of_row} for row, of_row in subjects.items()}
    names["dev"] = {dev.SUBJECT}
    for goal in GOALS:
        assert goal.metric in UNITS
        assert goal.subject in names[goal.row]
        assert math.isfinite(goal.at_most) != math.isfinite(goal.at_least)


def test_a_goal_is_a_bound_from_above_or_from_below() -> None:
    most, least = (
        Goal("a", "tls", "photinus-tls", "50x16", "cpu_over_plain", 2.2),
        Goal("b", "tls", "photinus-tls", "50x16", "echoes_over_each", at_least=5),
    )
    assert (most.bound, most.met(2.2), most.met(2.3)) == ("<= 2.2", True, False)
    assert (least.bound, least.met(5.0), least.met(4.9)) == (">= 5", True, False)


def test_engine_figures_are_a_packet_and_summed_over_sections() -> None:
    before = {"engine": {"packets_in": 10, "polls": 1}, "loop": {"turns_with_packets": 5, "waits": 1, "gil_ns": 0}}
    after = {"engine": {"packets_in": 110, "polls": 6}, "loop": {"turns_with_packets": 30, "waits": 6, "gil_ns": 5_000}}
    assert engine_figures(before, after) == {
        "packets_per_wake": 4.0,
        "gil_per_1000": 0.0,
        "gil_us": 0.05,
        "syscalls_per_1000": 100.0,
    }
    assert engine_figures(before, before) == {}
