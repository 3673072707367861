"""The numbers that are asked for, in one place. Falling short of one is told, and ends nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .results import Results

# As it comes: reactor 0 led by the loop's thread.
PHOTINUS = "photinus-bytes"
# One reactor led by a native thread: no I/O in what its Python thread costs.
NATIVE_LED = "photinus-native-led"


@dataclass(frozen=True)
class Goal:
    text: str
    row: str
    subject: str
    shape: str
    metric: str
    at_most: float = math.inf
    at_least: float = -math.inf

    @property
    def bound(self) -> str:
        return f"<= {self.at_most:g}" if self.at_most < math.inf else f">= {self.at_least:g}"

    def met(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most

    def measured(self, results: Results) -> float | None:
        return results.value(self.row, self.subject, self.shape, self.metric)


def _cpu(shape: str, at_most: float) -> Goal:
    return Goal(f"CPU of an echo, {shape}, x floor", "echo", PHOTINUS, shape, "cpu_ratio", at_most)


def _p99(shape: str) -> Goal:
    text = f"p99 of an echo, {shape}, x the better of uvloop and native-led"
    return Goal(text, "echo", PHOTINUS, shape, "p99_over_best", 1.5)


def _door(row: str, subject: str, cpu: float) -> tuple[Goal, ...]:
    return (
        Goal(f"CPU of an echo over {row}, 50x16, x plain", row, subject, "50x16", "cpu_over_plain", cpu),
        Goal("Python of the same, x plain", row, subject, "50x16", "python_over_plain", 1.1),
    )


def _compressed(shape: str) -> tuple[Goal, ...]:
    text = f"Python of 1 KB with zlib, {shape}, x without"
    return (
        Goal(f"{text}: pomelo", "compression", "pomelo-zlib", shape, "python_over_plain", 1.1),
        Goal(f"{text}: photinus", "compression", "photinus-zlib", shape, "python_over_plain", 1.1),
    )


def _busy(subject: str, how: str) -> tuple[Goal, ...]:
    return tuple(
        goal
        for shape in ("50x1", "50x16")
        for goal in (
            Goal(f"p99 of forwarding, {shape}, {how}, x idle", "forward", subject, shape, "p99_over_idle", 1.2),
            Goal("frames of the same, x idle", "forward", subject, shape, "packets_over_idle", at_least=0.95),
        )
    )


def _users(shape: str) -> tuple[Goal, ...]:
    return (
        Goal(f"CPU of a proxy, {shape} users, x uvloop", "proxy", "photinus", shape, "cpu_over_uvloop_proxy", 0.5),
        Goal("the same, x a native forwarder", "proxy", "photinus", shape, "cpu_over_native", 1.3),
        Goal("GIL held in it", "proxy", "photinus", shape, "gil_us", 0),
        Goal("GIL of packets routed in Python, x uvloop", "proxy", "photinus-routed", shape, "gil_over_uvloop", 0.2),
    )


GOALS = (
    _cpu("1x1-onecore", 1.2),
    Goal("the same, x uvloop writing joined", "echo", PHOTINUS, "1x1-onecore", "cpu_over_uvloop", 1.05),
    _cpu("4x1-onecore", 1.1),
    _cpu("50x1", 1.1),
    _cpu("1000x1", 1.1),
    _cpu("50x16", 1.25),
    _cpu("1000x16", 1.25),
    _cpu("open20k", 1.2),
    _cpu("open60k", 1.2),
    _p99("open20k"),
    _p99("open60k"),
    Goal("p99 of an echo, 1000x1, x floor", "echo", PHOTINUS, "1000x1", "p99_ratio", 1.5),
    Goal("GIL held for a packet, bytes def, us", "echo", PHOTINUS, "50x16", "gil_us", 0.1),
    Goal("the same where each packet is a wake", "echo", PHOTINUS, "1x1-onecore", "gil_us", 1.0),
    Goal("take-over from a busy Python, p99, us", "pace", PHOTINUS, "busy5ms", "take_over_p99_us", 3000),
    Goal("timers late at 60k packets/s, p99, us", "pace", PHOTINUS, "timers60k", "timer_late_p99_us", 1000),
    Goal("wakes of an idle server a second", "pace", PHOTINUS, "idle", "wakes_per_s", 50),
    Goal("Python of a packet, bytes def, us", "echo", NATIVE_LED, "50x16", "python_us", 0.12),
    Goal("Python of a packet, typed, us", "echo", "photinus-typed", "50x16", "python_us", 0.35),
    Goal("async def above def, us", "echo", "photinus-async", "50x16", "python_over_bytes_us", 0.15),
    Goal("the same, in memory", "tasks", "photinus-async", "memory", "async_over_def_us", 0.15),
    Goal(
        "async def that suspends once, x a bare task", "tasks", "photinus-async", "memory", "suspending_over_task", 1.1
    ),
    Goal("Python of a delivery, us", "broadcast", PHOTINUS, "1000x1", "python_us", 0.02),
    Goal("CPU of a delivery, x C write loop", "broadcast", PHOTINUS, "1000x1", "cpu_ratio", 1.05),
    Goal("the same, four in one turn", "broadcast", PHOTINUS, "1000x4", "cpu_ratio", 0.4),
    Goal("resident bytes of an idle session", "memory", PHOTINUS, "15000", "bytes_per_session", 2048),
    Goal("share of a burst's memory not given back", "memory", PHOTINUS, "15000", "burst_kept", 0.1),
    Goal("the same over TLS", "memory", f"{PHOTINUS}-tls", "15000", "bytes_per_session", 12 * 1024),
    *_door("tls", "photinus-tls", 2.2),
    Goal("echoes over TLS, x ssl joined", "tls", "photinus-tls", "50x16", "echoes_over_joined", at_least=2.5),
    Goal("the same, x ssl a write a frame", "tls", "photinus-tls", "50x16", "echoes_over_each", at_least=5),
    *_door("websocket", "photinus-ws", 1.35),
    Goal("TLS handshakes, x a bare loop", "handshakes", PHOTINUS, "storm", "handshakes_ratio", at_least=0.6),
    Goal("p99 of players meanwhile, us", "handshakes", PHOTINUS, "storm", "p99_us", 5000),
    *_compressed("open10k"),
    *_compressed("50x16"),
    Goal("p99 of broadcasts with slow readers, x without", "readers", PHOTINUS, "slow", "p99_over_calm", 2),
    Goal("1,000 cut on wss, all back, s", "resume", "photinus-wss", "1000", "all_back_s", 1),
    Goal("10,000 cut on tcp, all back, s", "resume", "photinus-tcp", "10000", "all_back_s", 3),
    Goal("lost, doubled or refused, of the 1,000", "resume", "photinus-wss", "1000", "wrong", 0),
    Goal("the same, of the 10,000", "resume", "photinus-tcp", "10000", "wrong", 0),
    Goal("CPU of forwarding, 50x1, x floor", "forward", "photinus", "50x1", "proxy_cpu_ratio", 1.5),
    Goal("CPU of forwarding, 50x16, x floor", "forward", "photinus", "50x16", "proxy_cpu_ratio", 1.5),
    Goal("GIL held in it, 50x1, us", "forward", "photinus", "50x1", "gil_us", 0),
    Goal("GIL held in it, 50x16, us", "forward", "photinus", "50x16", "gil_us", 0),
    *_busy("photinus-busy-python", "while True"),
    *_busy("photinus-busy-pieces", "100 ms pieces"),
    *_users("1600"),
    Goal("users held at p99 < 50 ms, x uvloop", "proxy", "photinus", "held", "users_over_uvloop", at_least=3),
    Goal("Python of a member on a proxy, us", "multicast", "photinus", "1000x1", "python_us", 0.02),
    Goal("CPU of it on the proxies, x a local broadcast", "multicast", "photinus", "1000x1", "cpu_over_local", 1.1),
    Goal("a call to another node, p50, us", "call", "photinus", "1", "p50_us", 80),
    Goal("calls a second, 64 under way", "call", "photinus", "64", "calls_per_s", at_least=60_000),
    Goal("p99 of calls on a saturated link, x alone", "call", "photinus", "saturated", "p99_over_calm", 2),
    Goal("p99 of calls beside a stuck space, x alone", "call", "photinus", "stuck", "p99_over_calm", 1.5),
    Goal("photinus new, dev, first answer, ms", "dev", "photinus", "new", "first_answer_ms", 5000),
    Goal("save to new handler, ms", "dev", "photinus", "save500", "save_to_handler_ms", 1000),
)
