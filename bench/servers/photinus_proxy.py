"""Photinus as a proxy: `photinus_proxy.py --config FILE --node NAME URL…`, what `photinus run --role proxy` runs.

A program of its own, since a proxy runs no application that could say its statistics, or keep its Python busy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from bench.servers import busy
from bench.servers.reporting import answer
from photinus import App
from photinus.config import load
from photinus.node import Node, run


async def serve(node: Node) -> None:
    for address in node.addresses:
        print(f"listening on {address}")
    print(f"ready: {node.name}", flush=True)
    busy.begin()
    await answer(node.statistics)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    parser.add_argument("--node")
    parser.add_argument("--role")
    parser.add_argument("listeners", nargs="+")
    options = parser.parse_args()
    config = load(options.config)
    node = msgspec.structs.replace(
        config.node, name=options.node, roles=(options.role,), listen=tuple(options.listeners)
    )
    run(App("proxy"), serve, config=msgspec.structs.replace(config, node=node))


if __name__ == "__main__":
    main()
