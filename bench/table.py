"""The one table of a run, and the goals under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from .goals import GOALS
from .results import Key, Results
from .subjects import COMPRESSION, ECHO, PROXY, TLS, WEBSOCKET


@dataclass(frozen=True)
class Column:
    title: str
    metrics: tuple[str, ...]
    """The first of them that the row has."""
    decimals: int
    scale: float = 1.0


# Of the widest table.
WIDTH = 160

OWN_TABLES = ("proxy/held",)

COLUMNS = (
    Column("per s", ("echoes_per_s", "deliveries_per_s"), 0),
    Column("p50 us", ("p50_us",), 0),
    Column("p99 us", ("p99_us",), 0),
    Column("CPU us", ("cpu_us",), 3),
    Column("x floor", ("cpu_ratio",), 2),
    Column("p99\nx floor", ("p99_ratio",), 2),
    Column("x best", ("p99_over_best",), 2),
    Column("Python us", ("python_us",), 3),
    Column("GIL us", ("gil_us",), 3),
    Column("packets\n/wake", ("packets_per_wake",), 1),
    Column("GIL\n/1000", ("gil_per_1000",), 1),
    Column("syscalls\n/1000", ("syscalls_per_1000",), 0),
)

DOOR_COLUMNS = (
    *COLUMNS[:4],
    Column("x plain", ("cpu_over_plain",), 2),
    Column("Python us", ("python_us",), 3),
    Column("x plain", ("python_over_plain",), 2),
    Column("per s\nx joined", ("echoes_over_joined",), 2),
    Column("x each", ("echoes_over_each",), 2),
    Column("packets\n/wake", ("packets_per_wake",), 1),
)

FORWARD_COLUMNS = (
    Column("per s", ("packets_per_s",), 0),
    *COLUMNS[1:3],
    Column("proxy\nCPU us", ("proxy_cpu_us",), 3),
    Column("x floor", ("proxy_cpu_ratio",), 2),
    Column("GIL us", ("gil_us",), 3),
    Column("per s\nx idle Python", ("packets_over_idle",), 2),
    Column("p99\nx idle Python", ("p99_over_idle",), 2),
)

PROXY_COLUMNS = (
    Column("CPU us\na user/s", ("cpu_us_per_user_s",), 1),
    Column("cores", ("cpu_share",), 3),
    Column("x uvloop", ("cpu_over_uvloop_proxy",), 2),
    Column("x native", ("cpu_over_native",), 2),
    Column("GIL us\na user/s", ("gil_us",), 1),
    Column("wakes\na second", ("wakes_per_s",), 0),
    Column("added us\np50", ("added_p50_us",), 0),
    Column("p99", ("added_p99_us",), 0),
    Column("asked\np99", ("asked_p99_us",), 0),
    Column("delivered", ("delivered",), 3),
)

HELD_COLUMNS = (
    Column("users held", ("users_held",), 0),
    Column("x uvloop", ("users_over_uvloop",), 2),
    Column("or more: the load\nwas full (share)", ("load_bound",), 1),
)

MULTICAST_COLUMNS = (
    *COLUMNS[:3],
    Column("Python us", ("python_us",), 4),
    Column("CPU us", ("cpu_us",), 3),
    Column("x local", ("cpu_over_local",), 2),
)

CALL_COLUMNS = (
    Column("calls\nper s", ("calls_per_s",), 0),
    Column("p50 us", ("p50_us",), 1),
    Column("p99 us", ("p99_us",), 1),
    Column("p99\nx alone", ("p99_over_calm",), 2),
)

HANDSHAKE_COLUMNS = (
    Column("handshakes\nper s", ("handshakes_per_s",), 0),
    Column("x floor", ("handshakes_ratio",), 2),
    Column("CPU us", ("cpu_us",), 0),
    Column("x floor", ("cpu_ratio",), 2),
    Column("players\np50 us", ("p50_us",), 0),
    Column("p99 us", ("p99_us",), 0),
)

READERS_COLUMNS = (
    *COLUMNS[:3],
    Column("p99\nx calm", ("p99_over_calm",), 2),
    Column("slow readers\nended", ("slow_ended",), 0),
)

RESUME_COLUMNS = (
    Column("all back s", ("all_back_s",), 2),
    Column("half of them ms", ("back_p50_ms",), 0),
    Column("lost, doubled\nor refused", ("wrong",), 0),
)

MEMORY_COLUMNS = (
    Column("B/session", ("bytes_per_session",), 0),
    Column("MB before", ("rss_before",), 1, 1e-6),
    Column("idle", ("rss_idle",), 1, 1e-6),
    Column("in a burst", ("rss_burst",), 1, 1e-6),
    Column("after it", ("rss_after",), 1, 1e-6),
    Column("burst kept", ("burst_kept",), 3),
)

DEV_COLUMNS = (
    Column("first answer ms", ("first_answer_ms",), 0),
    Column("save to handler ms", ("save_to_handler_ms",), 0),
    Column("longest answer ms", ("longest_answer_ms",), 0),
)


TASKS_COLUMNS = (
    Column("async def\nover def us", ("async_over_def_us",), 3),
    Column("suspending\nus", ("suspending_us",), 3),
    Column("asyncio task\nus", ("task_us",), 3),
    Column("x task", ("suspending_over_task",), 2),
)

PACE_COLUMNS = (
    Column("p99 us", ("p99_us",), 0),
    Column("handshake\np99 us", ("native_p99_us",), 0),
    Column("take-over\np99 us", ("take_over_p99_us",), 0),
    Column("timers late\np99 us", ("timer_late_p99_us",), 0),
    Column("wakes\na second", ("wakes_per_s",), 1),
    Column("CPU us\na second", ("idle_cpu_us_per_s",), 1),
)


def show(results: Results, console: Console) -> None:
    # Also on a narrow terminal, and into a file or a pipe the table must not be squeezed into 80 columns.
    console.width = max(console.width, WIDTH)
    keys = results.measured()
    tables = (
        (("echo", "broadcast"), COLUMNS),
        (("tls", "websocket", "compression"), DOOR_COLUMNS),
        (("forward",), FORWARD_COLUMNS),
        (("proxy",), PROXY_COLUMNS),
        (("proxy/held",), HELD_COLUMNS),
        (("multicast",), MULTICAST_COLUMNS),
        (("call",), CALL_COLUMNS),
        (("handshakes",), HANDSHAKE_COLUMNS),
        (("readers",), READERS_COLUMNS),
        (("resume",), RESUME_COLUMNS),
        (("pace",), PACE_COLUMNS),
        (("tasks",), TASKS_COLUMNS),
        (("memory",), MEMORY_COLUMNS),
        (("dev",), DEV_COLUMNS),
    )
    for rows, columns in tables:
        lines = list(dict.fromkeys((key.row, key.shape) for key in keys if _belongs(key, rows)))
        if lines:
            console.print(_table(results, lines, columns))
    _show_goals(results, console)
    for problem in results.problems:
        console.print(f"[red]problem[/] {problem}", highlight=False)


def _belongs(key: Key, rows: Sequence[str]) -> bool:
    """A shape that has other figures than its row has a table of its own."""
    own = f"{key.row}/{key.shape}"
    return own in rows if own in OWN_TABLES else key.row in rows


def _table(results: Results, lines: Sequence[tuple[str, str]], columns: Sequence[Column]) -> Table:
    table = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False)
    for title in ("row", "shape", "subject"):
        table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for row, shape in lines:
        subjects = dict.fromkeys(key.subject for key in results.measured() if (key.row, key.shape) == (row, shape))
        # In the order of subjects.py, not of the first round.
        for index, subject in enumerate(sorted(subjects, key=_place)):
            cells = [_cell(results, row, subject, shape, column) for column in columns]
            heading = (row, shape) if index == 0 else ("", "")
            style = "dim" if subject == "floor" else None
            table.add_row(*heading, subject, *cells, style=style, end_section=index == len(subjects) - 1)
    return table


def _place(subject: str) -> tuple[int, str]:
    order = [each.name for each in (*ECHO, *TLS, *WEBSOCKET, *COMPRESSION, *PROXY)]
    return (order.index(subject) if subject in order else len(order), subject)


def _cell(results: Results, row: str, subject: str, shape: str, column: Column) -> str:
    for metric in column.metrics:
        value = results.value(row, subject, shape, metric)
        if value is not None:
            return f"{value * column.scale:,.{column.decimals}f}"
    return ""


def _show_goals(results: Results, console: Console) -> None:
    table = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False)
    for title, justify in (("asked for", "left"), ("bound", "right"), ("measured", "right"), ("", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    tried = {(key.row, key.shape) for key in results.measured()}
    for goal in (goal for goal in GOALS if (goal.row, goal.shape) in tried):
        value = goal.measured(results)
        if value is None:
            table.add_row(goal.text, goal.bound, "not measured", "", style="dim")
        else:
            verdict = "[green]ok[/]" if goal.met(value) else "[bold red]short[/]"
            table.add_row(goal.text, goal.bound, f"{value:,.3f}".rstrip("0").rstrip("."), verdict)
    if table.row_count:
        console.print(table)
