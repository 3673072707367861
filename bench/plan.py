"""What one run is to do: rows, how often, for how long; and where its progress goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .machine import cores
from .results import BASES, Results
from .subjects import Subject

_T = TypeVar("_T")


@dataclass
class Plan:
    bots: Path
    pattern: str = "*"
    """ROW, or ROW/SHAPE, or ROW/SHAPE/SUBJECT, each a glob."""
    rounds: int = 5
    seconds: float = 0.6
    warmup: float = 0.15
    results: Results = field(default_factory=Results)
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def __post_init__(self) -> None:
        self.server_cpu, self.load_cpu = cores()

    def wants(self, row: str, shape: str, subject: str = "*") -> bool:
        wanted = zip((row, shape, subject), self._parts(), strict=True)
        # What a subject is compared with is always measured beside it.
        return all(value == "*" or value in BASES or fnmatchcase(value, part) for value, part in wanted)

    def chosen(self, row: str, shapes: Sequence[str], subjects: Sequence[Subject]) -> list[Subject]:
        """Of these subjects, those that are wanted in any of the shapes; none, if only what others are
        compared with is left and was not asked for."""
        chosen = [each for each in subjects if any(self.wants(row, shape, each.name) for shape in shapes)]
        return chosen if any(fnmatchcase(each.name, self._parts()[2]) for each in chosen) else []

    def _parts(self) -> list[str]:
        return [*self.pattern.split("/"), "*", "*"][:3]

    def measure(
        self,
        row: str,
        shapes: Sequence[str],
        subjects: Sequence[Subject],
        window: Callable[[Plan, Subject, str, int], None],
    ) -> None:
        """A window of every wanted subject in every wanted shape, in each round beginning with another subject."""
        shapes = [shape for shape in shapes if self.wants(row, shape)]
        subjects = self.chosen(row, shapes, subjects)
        if not shapes or not subjects:
            return
        with self.progress() as progress:
            task = progress.add_task(row, total=self.rounds * len(shapes) * len(subjects))
            for round_ in range(self.rounds):
                for index, shape in enumerate(shapes):
                    label = f"{row} {shape}, round {round_ + 1} of {self.rounds}"
                    self.say(label)
                    for subject in rotated(subjects, round_ + index):
                        progress.update(task, description=f"{label}: {subject.name}")
                        if self.wants(row, shape, subject.name):
                            window(self, subject, shape, round_)
                        progress.advance(task)

    def progress(self) -> Progress:
        """A bar on a terminal; `say` speaks in plain lines elsewhere."""
        return Progress(
            TextColumn("{task.description:<46}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def say(self, text: str) -> None:
        if not self.console.is_terminal:
            print(text, file=sys.stderr, flush=True)


def rotated(subjects: Sequence[_T], by: int) -> list[_T]:
    """Each in turn, but not always the same one first."""
    start = by % len(subjects) if subjects else 0
    return [*subjects[start:], *subjects[:start]]
