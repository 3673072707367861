"""What Autobahn found: the verdict of each case, and the tables of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

# Autobahn's sections, and how many cases each has: a run in which some are missing has found nothing out.
SECTIONS = {
    1: ("Framing", 16),
    2: ("Pings and pongs", 11),
    3: ("Reserved bits", 7),
    4: ("Opcodes", 10),
    5: ("Fragmentation", 20),
    6: ("UTF-8", 145),
    7: ("Closing", 37),
    9: ("Large messages and many of them", 54),
    10: ("Automatic fragmentation", 1),
    12: ("Compression of many kinds of messages", 90),
    13: ("Compression with all parameters", 126),
}
QUICK = (1, 2, 3, 4, 5, 6, 7, 9, 10)
ALL = tuple(SECTIONS)

# Cases without a right and a wrong, or with two rights: each was looked at, and this is why it is well as it is.
# Whether there is time for the answer depends on how the bytes were cut on their way: each of these may also be OK.
_AT_ONCE = (
    "An echo is due for the message in front of the bad frame. That message is handed to its handler (docs/protocol.md,"
    " 1.4); but the connection ends with the frame, and is not kept for an answer that may take any time."
)
_CLOSED = "The close is answered at once, in front of the echo: a client that has closed has no use for an answer."
_NO_CODE = "RFC 6455 gives this code no meaning. It is refused, as other codes that may not be sent are."
LOOKED_AT = {
    "3.2": _AT_ONCE,
    "3.3": _AT_ONCE,
    "3.4": _AT_ONCE,
    "4.1.3": _AT_ONCE,
    "4.1.4": _AT_ONCE,
    "4.1.5": _AT_ONCE,
    "4.2.3": _AT_ONCE,
    "4.2.4": _AT_ONCE,
    "4.2.5": _AT_ONCE,
    "5.15": _AT_ONCE,
    "7.1.6": _CLOSED,
    "7.13.1": _NO_CODE,
    "7.13.2": _NO_CODE,
}


class Case(Struct, rename="camel"):
    """One, as Autobahn's index.json has it."""

    behavior: str
    behavior_close: str
    duration: int
    """Milliseconds."""
    remote_close_code: int | None = None

    @property
    def verdict(self) -> str:
        """The worse of both: what was answered, and how the connection ended."""
        return self.behavior if self.behavior != "OK" else self.behavior_close


def read(index: bytes) -> dict[str, Case]:
    """The cases of the only server in it, in their order."""
    (cases,) = msgspec.json.decode(index, type=dict[str, dict[str, Case]]).values()
    return {name: cases[name] for name in sorted(cases, key=_place)}


def problems(cases: Mapping[str, Case], sections: Sequence[int]) -> list[str]:
    """What is wrong, a line each."""
    found = [
        f"{name}: {case.verdict} (answers: {case.behavior}, close: {case.behavior_close} {case.remote_close_code})"
        for name, case in cases.items()
        if case.verdict not in ("OK", "NON-STRICT", "INFORMATIONAL")
    ]
    found += [
        f"{name}: {case.verdict}, and nobody has looked at why (LOOKED_AT in results.py)"
        for name, case in cases.items()
        if case.verdict in ("NON-STRICT", "INFORMATIONAL") and name not in LOOKED_AT
    ]
    counts = Counter(_section(name) for name in cases)
    found += [
        f"section {section}: {counts[section]} cases were run, expected {SECTIONS[section][1]}"
        for section in sections
        if counts[section] != SECTIONS[section][1]
    ]
    return found


def rows(cases: Mapping[str, Case], sections: Sequence[int]) -> list[tuple[str, str, int, int, int, int]]:
    """Of each section: number, title, cases, and how many of them were OK, were not to be judged, and failed."""
    found = []
    for section in sections:
        verdicts = Counter(case.verdict for name, case in cases.items() if _section(name) == section)
        good = verdicts["OK"]
        neither = verdicts["NON-STRICT"] + verdicts["INFORMATIONAL"]
        total = verdicts.total()
        found.append((str(section), SECTIONS[section][0], total, good, neither, total - good - neither))
    return found


def document(cases: Mapping[str, Case], version: str) -> str:
    """docs/conformance.md."""
    lines = [
        "# Conformance of WebSocket",
        "",
        f"Written by `make conformance`: all cases of Autobahn's fuzzing client ({version}) against a node that",
        "serves `ws://…?protocol=plain&deflate=1` with a handler that returns what it is given (tests/conformance).",
        "`make test` runs sections 1 to 10. A case that is not OK, nor among those below, fails the run.",
        "",
        "| section | what | cases | OK | not judged | failed |",
        "|---|---|---|---|---|---|",
    ]
    table = rows(cases, ALL)
    lines += [f"| {' | '.join(map(str, row))} |" for row in table]
    sums = [sum(row[column] for row in table) for column in range(2, 6)]  # type: ignore[misc]
    lines += [f"| | all | {' | '.join(map(str, sums))} |", ""]
    lines += [
        "Not judged, and looked at one by one:",
        "",
        "| cases | Autobahn says | why it is well |",
        "|---|---|---|",
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for name, case in cases.items():
        if case.verdict != "OK":
            found.setdefault((case.verdict, LOOKED_AT.get(name, "")), []).append(name)
    lines += [f"| {', '.join(names)} | {verdict} | {why} |" for (verdict, why), names in found.items()]
    return "\n".join(lines) + "\n"


def _section(name: str) -> int:
    return int(name.partition(".")[0])


def _place(name: str) -> list[int]:
    return [int(number) for number in name.split(".")]
