"""Row `handshakes`: newcomers over TLS in great numbers, and what those who are in feel of them."""

from __future__ import annotations

from . import load
from .load import LoadFailed
from .plan import Plan
from .server import Server, ServerFailed
from .subjects import HANDSHAKES, Subject

ROW = "handshakes"

PLAYERS = 200
# Of all players together: each says something ten times a second.
PACKETS_A_SECOND = 2_000
# Under way at one time: enough that the server is never without one.
IN_FLIGHT = 64
# Some thousand packets: few of them are a hundredth.
SECONDS = 3.0

# Handshakes under way, beside the players.
SHAPES = {"calm": 0, "storm": IN_FLIGHT}


def run(plan: Plan) -> None:
    plan.measure(ROW, tuple(SHAPES), HANDSHAKES, _window)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    arguments = ["echo", "--connections", str(PLAYERS), "--rate", str(PACKETS_A_SECOND), "--storm", str(SHAPES[shape])]
    arguments += ["--seconds", str(max(plan.seconds, SECONDS)), "--warmup", str(plan.warmup)]
    arguments += ["--cpu", str(plan.load_cpu)]
    try:
        with Server(subject, plan.server_cpu, plan.bots) as server:
            report = load.run(plan.bots, arguments, server)
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    values = report.given("p50_us", "p99_us")
    if SHAPES[shape]:
        # The players' packets are in it: some hundredths.
        values |= report.given("handshakes_per_s") | {
            "cpu_us": report.cpu_figures(report.number("handshakes"))["cpu_us"]
        }
        if report.values["handshakes_failed"]:
            plan.results.problem(f"{ROW}: {subject.name}: {report.values['first_handshake_error']}")
    plan.results.add(ROW, subject.name, shape, round_, values)
    if report.values["errors"]:
        plan.results.problem(f"{ROW}/{shape}: {subject.name}: {report.values['errors']} packets of players unanswered")
