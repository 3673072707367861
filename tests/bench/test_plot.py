"""The plots: that they show what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from bench import plot
from bench.subjects import PROXY

SVG = "{http://www.w3.org/2000/svg}"


def measured(folder: Path, values: dict[tuple[str, str, str], float]) -> Path:
    entries = [
        {"row": "proxy", "subject": subject, "shape": shape, "metric": metric, "value": value, "unit": ""}
        for (subject, shape, metric), value in values.items()
    ]
    entries.append({"row": "echo", "subject": "uvloop", "shape": "50x1", "metric": "cpu_us", "value": 1.0, "unit": ""})
    path = folder / "bench.json"
    path.write_text(json.dumps(entries))
    return path


def drawn(folder: Path, values: dict[tuple[str, str, str], float]) -> ET.Element:
    path = plot.draw(measured(folder, values), folder)
    assert path is not None
    return ET.fromstring(path.read_text())  # noqa: S314 - written here


def test_nothing_of_the_row_is_no_plot(tmp_path: Path) -> None:
    assert plot.draw(measured(tmp_path, {}), tmp_path) is None


def test_each_measured_subject_is_a_line_in_its_panels(tmp_path: Path) -> None:
    values = {
        (subject, str(users), "added_p99_us"): scale * (100.0 + users)
        for subject, scale in (("uvloop", 10.0), ("photinus", 1.0))
        for users in (0, 800, 1600)
    }
    values["photinus", "0-down", "added_p99_us"] = 70.0
    picture = drawn(tmp_path, values)
    lines = [path for path in picture.iter(f"{SVG}path") if "line" in (path.get("class") or "")]
    # A key and a line for each, and the way down of one.
    assert len(lines) == 5
    assert sum("down" in (path.get("class") or "") for path in lines) == 1
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert "A  uvloop" in texts
    assert "B  engine, routed and compressed in Python" not in texts
    # In milliseconds, by decades, around what is between 0.07 and 17.
    assert {"0.01", "0.1", "1", "10", "100"} <= set(texts)


def test_every_subject_of_the_row_has_a_series() -> None:
    assert {series.subject for series in plot.SERIES} == {subject.name for subject in PROXY}


def test_what_is_higher_is_drawn_higher(tmp_path: Path) -> None:
    values = {("photinus", str(users), "cpu_share"): users / 1600 for users in (0, 400, 1600)}
    picture = drawn(tmp_path, values)
    path = next(each for each in picture.iter(f"{SVG}path") if each.get("d", "").count("L") == 2)
    spots = [tuple(map(float, spot.split(","))) for spot in path.get("d", "")[1:].split("L")]
    (x0, y0), (x1, y1), (x2, y2) = spots
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert (x1 - x0) / (x2 - x0) == (y0 - y1) / (y0 - y2)
