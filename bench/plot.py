"""The plots of the row `proxy`: small panels, one figure each, by the number of users.

Written as SVG by hand: a plotting library would be a hundred times what is used of it, and these follow the reader's
light or dark. The thin lines are the way down.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

NAME = "proxy.svg"
ROW = "proxy"
DOWN = "-down"

# Figures by subject, and for each number of users, on the way up and on the way down.
Line = list[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    subject: str
    title: str
    light: str
    dark: str
    dashed: bool = False


# What is compared with each other has colours that differ for everybody; floors are greys.
SERIES = (
    Series("floor", "C forwarder, plain", "#8a8f98", "#8a8f98"),
    Series("native", "native forwarder, TLS + zlib", "#3d434c", "#c9cdd4"),
    Series("uvloop", "A  uvloop", "#c2410c", "#fb923c"),
    Series("photinus-routed", "B  engine, routed and compressed in Python", "#7c3aed", "#a78bfa"),
    Series("photinus-routed-zlib", "C  as B, compressed by the engine", "#0369a1", "#38bdf8"),
    Series("photinus", "D  BlueNet", "#047857", "#34d399"),
    Series("uvloop-half-busy", "A, Python half busy", "#c2410c", "#fb923c", dashed=True),
    Series("photinus-half-busy", "D, Python half busy", "#047857", "#34d399", dashed=True),
)


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    metric: str
    scale: float = 1.0
    logarithmic: bool = False


PANELS = (
    Panel("CPU of the proxy", "cores", "cpu_share"),
    Panel("CPU of a user", "us a second", "cpu_us_per_user_s"),
    Panel("GIL held for a user", "us a second", "gil_us"),
    Panel("Wakes", "thousands a second", "wakes_per_s", scale=1e-3),
    Panel("Added latency, p50", "ms", "added_p50_us", scale=1e-3, logarithmic=True),
    Panel("Added latency, p99", "ms", "added_p99_us", scale=1e-3, logarithmic=True),
)

COLUMNS = 3
WIDTH, HEIGHT = 320, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 46, 40
LEGEND_LINE, LEGEND_COLUMN = 20, 320
MARGIN = 16
TICKS = 4

STYLE = """
text { font: 11px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #59616c; }
.page { fill: #ffffff; }
.name { font-size: 13px; font-weight: 600; fill: #1b1f24; }
.key { font-size: 12px; fill: #1b1f24; }
.grid { stroke: #e4e7eb; stroke-width: 1; }
.base { stroke: #aab1ba; stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.down { stroke-width: 1.2; opacity: 0.45; }
.dashed { stroke-dasharray: 5 4; }
"""
DARK = """
text { fill: #9aa3ad; }
.page { fill: #14181d; }
.name, .key { fill: #e6eaef; }
.grid { stroke: #262c34; }
.base { stroke: #4b545f; }
"""


def draw(measured: Path, folder: Path) -> Path | None:
    """Draws what this bench.json holds into a file of this folder; None if it holds nothing of the row."""
    lines = _lines(measured)
    shown = [each for each in SERIES if any(subject == each.subject for subject, _ in lines)]
    if not shown:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_text("\n".join(_picture(lines, shown)) + "\n")
    return path


@dataclass
class _Way:
    up: Line
    down: Line


def _lines(measured: Path) -> dict[tuple[str, str], _Way]:
    """By subject and metric."""
    lines: dict[tuple[str, str], _Way] = {}
    for entry in json.loads(measured.read_text()):
        users = entry["shape"].removesuffix(DOWN)
        if entry["row"] == ROW and users.isdigit():
            way = lines.setdefault((entry["subject"], entry["metric"]), _Way([], []))
            side = way.down if entry["shape"].endswith(DOWN) else way.up
            side.append((float(users), float(entry["value"])))
    for way in lines.values():
        way.up.sort()
        # It begins where the way up ended.
        way.down = sorted([*way.down, *way.up[-1:]])
    return lines


def _picture(lines: dict[tuple[str, str], _Way], shown: Sequence[Series]) -> Iterator[str]:
    legend = math.ceil(len(shown) / COLUMNS) * LEGEND_LINE + MARGIN
    width = COLUMNS * WIDTH + 2 * MARGIN
    height = math.ceil(len(PANELS) / COLUMNS) * HEIGHT + legend + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    yield "<title>What users cost a proxy, and what it adds to their latency</title>"
    colours = "".join(f".s{at} {{ stroke: {each.light}; }} " for at, each in enumerate(SERIES))
    dark = "".join(f".s{at} {{ stroke: {each.dark}; }} " for at, each in enumerate(SERIES))
    yield f"<style>{STYLE}{colours}@media (prefers-color-scheme: dark) {{{DARK}{dark}}}</style>"
    yield f'<rect class="page" width="{width}" height="{height}" rx="8"/>'
    for at, series in enumerate(shown):
        x = MARGIN + (at % COLUMNS) * LEGEND_COLUMN
        y = MARGIN + (at // COLUMNS) * LEGEND_LINE + 8
        yield f'<path class="{_classes(series)}" d="M{x},{y}h26"/>'
        yield f'<text class="key" x="{x + 34}" y="{y + 4}">{escape(series.title)}</text>'
    for at, panel in enumerate(PANELS):
        x = MARGIN + (at % COLUMNS) * WIDTH
        y = MARGIN + legend + (at // COLUMNS) * HEIGHT
        yield f'<g transform="translate({x},{y})">'
        yield from _panel(panel, lines, shown)
        yield "</g>"
    yield "</svg>"


def _panel(panel: Panel, lines: dict[tuple[str, str], _Way], shown: Sequence[Series]) -> Iterator[str]:
    ways = [(each, lines[each.subject, panel.metric]) for each in shown if (each.subject, panel.metric) in lines]
    yield f'<text class="name" x="0" y="16">{escape(panel.title)}</text>'
    yield f'<text x="0" y="32">{escape(panel.unit)}</text>'
    points = [point for _, way in ways for point in (*way.up, *way.down)]
    if not points:
        return
    users = [point[0] for point in points]
    values = [point[1] * panel.scale for point in points]
    across = _scale(0, max(*users, 1), LEFT, WIDTH - RIGHT)
    ticks = _decades(values) if panel.logarithmic else _steps(max(values))
    place = math.log10 if panel.logarithmic else float
    upright = _scale(place(ticks[0]), place(ticks[-1]), HEIGHT - BOTTOM, TOP)
    for tick in ticks:
        y = upright(place(tick))
        yield f'<path class="{"base" if tick == ticks[0] else "grid"}" d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    for tick in (tick for tick in _steps(max(*users, 1)) if tick <= max(users)):
        yield f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - BOTTOM + 31}" text-anchor="middle">users</text>'

    def path(line: Line) -> str:
        least = ticks[0]
        spots = ((across(at), upright(place(max(value * panel.scale, least)))) for at, value in line)
        return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in spots)

    for series, way in ways:
        if len(way.down) > 1:
            yield f'<path class="{_classes(series)} down" d="{path(way.down)}"/>'
    for series, way in ways:
        yield f'<path class="{_classes(series)}" d="{path(way.up)}"/>'


def _classes(series: Series) -> str:
    return f"line s{SERIES.index(series)}" + (" dashed" if series.dashed else "")


def _scale(first: float, last: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - first) / ((last - first) or 1) * (end - start)


def _steps(highest: float) -> list[float]:
    """From 0 to above the highest, in steps that are read easily."""
    wanted = (highest or 1) / TICKS
    power = 10 ** math.floor(math.log10(wanted))
    step = next(size * power for size in (1, 2, 2.5, 4, 5, 10) if size * power >= wanted * 0.999)
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)] if highest else [0, step]


def _decades(values: Sequence[float]) -> list[float]:
    above = [value for value in values if value > 0] or [1]
    first, last = math.floor(math.log10(min(above))), math.ceil(math.log10(max(above)))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]
