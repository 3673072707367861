"""What was measured: one value a round, medians over the rounds, ratios taken within a round."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

FLOOR = "floor"
# A broadcast from the node that holds the members.
LOCAL = "local"

# Subjects, and the same without what they show the cost of.
PLAIN = {
    "photinus-tls": "photinus-tcp",
    "photinus-ws": "photinus-tcp",
    "photinus-wss": "photinus-tcp",
    "pomelo-zlib": "pomelo-plain",
    "photinus-zlib": "photinus-plain",
    **{
        f"{proxy}-busy-{how}": f"{proxy}-idle-python"
        for proxy in ("photinus", "uvloop")
        for how in ("python", "pieces")
    },
    "photinus-crowded": "photinus-idle-python",
}
# The shape of a row without what disturbs in the others.
CALM = "calm"
# Calls one after the other, and the same while something disturbs.
ONE_CALL = "1"
DISTURBED_CALLS = ("saturated", "stuck")

# What others are compared with.
BASES = {FLOOR, LOCAL, *PLAIN.values()}

# Servers over ssl: which write all answers to one read at once, and which one by one.
JOINED = ("asyncio-ssl-joined", "uvloop-ssl-joined")
EACH = ("asyncio-ssl", "uvloop-ssl")

UNITS = {
    "echoes_per_s": "1/s",
    "deliveries_per_s": "1/s",
    "packets_per_s": "1/s",
    "p50_us": "us",
    "p99_us": "us",
    "cpu_us": "us",
    "proxy_cpu_us": "us",
    "proxy_cpu_ratio": "x floor",
    "p99_over_idle": "x the same with an idle Python",
    "packets_over_idle": "x the same with an idle Python",
    "cpu_us_per_user_s": "us/s",
    "cpu_share": "cores",
    "cpu_over_uvloop_proxy": "x uvloop",
    "cpu_over_native": "x native",
    "gil_over_uvloop": "x uvloop",
    "added_p50_us": "us",
    "added_p99_us": "us",
    "asked_p99_us": "us",
    "delivered": "share",
    "users_held": "1",
    "users_over_uvloop": "x uvloop",
    "load_bound": "1",
    "cpu_over_local": "x a local broadcast",
    "calls_per_s": "1/s",
    "link_mb_per_s": "MB/s",
    "python_us": "us",
    "gil_us": "us",
    "cpu_ratio": "x floor",
    "python_over_bytes_us": "us",
    "cpu_over_uvloop": "x uvloop-joined",
    "cpu_over_plain": "x the same without",
    "python_over_plain": "x the same without",
    "echoes_over_joined": "x the better of asyncio-ssl-joined and uvloop-ssl-joined",
    "echoes_over_each": "x the better of asyncio-ssl and uvloop-ssl",
    "handshakes_per_s": "1/s",
    "p99_over_calm": "x the same without what disturbs",
    "slow_ended": "1",
    "all_back_s": "s",
    "back_p50_ms": "ms",
    "wrong": "1",
    "handshakes_ratio": "x floor",
    "async_over_def_us": "us",
    "suspending_us": "us",
    "task_us": "us",
    "suspending_over_task": "x asyncio task",
    "p99_ratio": "x floor",
    "p99_over_best": "x the better of uvloop and photinus-native-led",
    "native_p99_us": "us",
    "take_over_p99_us": "us",
    "timer_late_p99_us": "us",
    "wakes_per_s": "1/s",
    "idle_cpu_us_per_s": "us/s",
    "packets_per_wake": "1",
    "gil_per_1000": "1",
    "syscalls_per_1000": "1",
    "bytes_per_session": "B",
    "rss_before": "B",
    "rss_idle": "B",
    "rss_burst": "B",
    "rss_after": "B",
    "burst_kept": "share",
    "first_answer_ms": "ms",
    "save_to_handler_ms": "ms",
    "longest_answer_ms": "ms",
}


class Key(NamedTuple):
    row: str
    subject: str
    shape: str
    metric: str


class Results:
    def __init__(self) -> None:
        self._rounds: dict[Key, dict[int, float]] = defaultdict(dict)
        self.problems: list[str] = []

    def add(self, row: str, subject: str, shape: str, round_: int, values: dict[str, float]) -> None:
        for metric, value in values.items():
            if metric not in UNITS:
                raise KeyError(f"metric {metric} has no unit")
            self._rounds[Key(row, subject, shape, metric)][round_] = value

    def problem(self, text: str) -> None:
        """Something that went wrong, to be told at the end; the same thing once."""
        if text not in self.problems:
            self.problems.append(text)

    def compare(self) -> None:
        """Adds what compares subjects, pair by pair in each round: the host's speed drifts by more
        than what is to be seen, but hardly between neighbours."""
        for key, rounds in list(self._rounds.items()):
            if key.metric == "cpu_us" and key.subject != FLOOR:
                self._pair(key, rounds, key._replace(subject=FLOOR), "cpu_ratio")
            if key.metric == "proxy_cpu_us" and key.subject != FLOOR:
                self._pair(key, rounds, key._replace(subject=FLOOR), "proxy_cpu_ratio")
            if key.metric == "cpu_us" and key.row == "multicast" and key.subject != LOCAL:
                self._pair(key, rounds, key._replace(subject=LOCAL), "cpu_over_local")
            if key.row == "proxy":
                self._compare_proxies(key, rounds)
            if key.metric == "handshakes_per_s" and key.subject != FLOOR:
                self._pair(key, rounds, key._replace(subject=FLOOR), "handshakes_ratio")
            if key.metric in ("cpu_us", "python_us") and key.subject in PLAIN:
                plain = key._replace(subject=PLAIN[key.subject])
                self._pair(key, rounds, plain, key.metric.replace("_us", "_over_plain"))
            if key.metric == "p99_us" and key.row == "readers" and key.shape != CALM:
                self._pair(key, rounds, key._replace(shape=CALM), "p99_over_calm")
            if key.metric == "p99_us" and key.row == "call" and key.shape in DISTURBED_CALLS:
                self._pair(key, rounds, key._replace(shape=ONE_CALL), "p99_over_calm")
            if key.metric == "echoes_per_s" and key.subject == "photinus-tls":
                self._over_best(key, rounds, JOINED, "echoes_over_joined")
                self._over_best(key, rounds, EACH, "echoes_over_each")
            if key.metric == "cpu_us" and key.subject == "photinus-bytes":
                self._pair(key, rounds, key._replace(subject="uvloop-joined"), "cpu_over_uvloop")
            if key.metric == "p99_us" and key.subject == "photinus-bytes":
                self._tail(key, (FLOOR,), "p99_ratio")
                self._tail(key, ("uvloop", "photinus-native-led"), "p99_over_best")
            if key.metric == "python_us" and key.subject in ("photinus-async", "photinus-typed"):
                self._pair(key, rounds, key._replace(subject="photinus-native-led"), "python_over_bytes_us")

    def _compare_proxies(self, key: Key, rounds: dict[int, float]) -> None:
        uvloop = {
            "cpu_us_per_user_s": "cpu_over_uvloop_proxy",
            "gil_us": "gil_over_uvloop",
            "users_held": "users_over_uvloop",
        }
        if key.metric in uvloop and key.subject.startswith("photinus"):
            busy = "-half-busy" if key.subject.endswith("-half-busy") else ""
            self._pair(key, rounds, key._replace(subject=f"uvloop{busy}"), uvloop[key.metric])
        if key.metric == "cpu_us_per_user_s" and key.subject == "photinus":
            self._pair(key, rounds, key._replace(subject="native"), "cpu_over_native")

    def value(self, row: str, subject: str, shape: str, metric: str) -> float | None:
        rounds = self._rounds.get(Key(row, subject, shape, metric))
        return median(rounds.values()) if rounds else None

    def measured(self) -> list[Key]:
        return list(self._rounds)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [
            {**key._asdict(), "value": round(median(rounds.values()), 6), "unit": UNITS[key.metric]}
            for key, rounds in self._rounds.items()
        ]
        path.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")

    def _tail(self, key: Key, others: Sequence[str], metric: str) -> None:
        """Over the best of these. Medians over the rounds are compared: what the host does to a hundredth
        of a window is another thing in each."""
        values = [self.value(key.row, other, key.shape, key.metric) for other in others]
        own, known = self.value(*key), [value for value in values if value is not None]
        if own is not None and len(known) == len(others):
            self._rounds[key._replace(metric=metric)] = {0: own / min(known)}

    def _over_best(self, key: Key, rounds: dict[int, float], others: Sequence[str], metric: str) -> None:
        """Over the highest of these in the same round; of rounds that one of them missed there is nothing."""
        known = [self._rounds.get(key._replace(subject=other), {}) for other in others]
        whole = [number for number in rounds if all(number in each for each in known)]
        if whole:
            best = {number: max(each[number] for each in known) for number in whole}
            self._rounds[key._replace(metric=metric)] = {number: rounds[number] / best[number] for number in whole}

    def _pair(self, key: Key, rounds: dict[int, float], other: Key, metric: str) -> None:
        base = self._rounds.get(other, {})
        pairs = {number: (value, base[number]) for number, value in rounds.items() if number in base}
        if metric != "python_over_bytes_us":
            compared = {number: value / least for number, (value, least) in pairs.items() if least > 0}
        else:
            compared = {number: value - least for number, (value, least) in pairs.items()}
        if compared:
            self._rounds[key._replace(metric=metric)] = compared
