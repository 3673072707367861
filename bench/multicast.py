"""Row `multicast`: what the row `broadcast` does, from a node to members on two proxies."""

from __future__ import annotations

from . import load
from .broadcast import MEMBERS, SHAPES, WINDOWS
from .chain import Chain
from .load import LoadFailed
from .plan import Plan
from .server import ServerFailed
from .subjects import MULTICAST, Subject

ROW = "multicast"
PROXIES = 2


def run(plan: Plan) -> None:
    plan.measure(ROW, tuple(SHAPES), MULTICAST, _window)


def _window(plan: Plan, subject: Subject, shape: str, round_: int) -> None:
    arguments = ["receive", "--connections", str(MEMBERS), "--broadcasts", str(SHAPES[shape])]
    arguments += ["--seconds", str(WINDOWS * plan.seconds), "--warmup", str(plan.warmup), "--cpu", str(plan.load_cpu)]
    try:
        with Chain(plan, subject, fronts=PROXIES if subject.behind else 1) as chain:
            chain.wait_for_links()
            for proxy in chain.fronts[1:]:
                arguments += ["--also-to", proxy.address, "--beside", str(proxy.process)]
            for world in chain.behind:
                arguments += ["--beside", str(world.process)]
            report = load.run(plan.bots, arguments, chain.front)
    except (ServerFailed, LoadFailed) as error:
        plan.results.problem(f"{ROW}/{shape}: {error}")
        return
    deliveries = report.number("deliveries")
    values = report.given("deliveries_per_s", "p50_us", "p99_us") | report.cpu_figures(deliveries)
    if subject.behind:
        *proxies, world = report.values["beside"]
        fronts = (report.values["watched"], *proxies)
        # What the sender has to do, and what those who fan out have.
        values["cpu_us"] = sum(proxy["cpu_us"] for proxy in fronts) / deliveries
        values["python_us"] = world["main_cpu_us"] / deliveries
    plan.results.add(ROW, subject.name, shape, round_, values)
