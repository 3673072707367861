"""A process with a running node is forked; what the child may not do with it, and what it may."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from photinus import Group
from tests.adversity.servers import echoing, serve


def child(works: dict[str, Callable[[], object]]) -> None:
    for name, work in works.items():
        try:
            work()
        except RuntimeError as error:
            told = str(error)
        else:
            told = "nothing"
        assert "make a new engine here" in told, f"{name} raised {told}"
    # What belongs to it from the beginning works.
    with serve(echoing().app) as own:
        assert own.connect("length4").ask(b"child").body == b"child"


def main() -> None:
    world = echoing()
    with serve(world.app) as server:
        client = server.connect("length4")
        assert client.ask(b"before").body == b"before"
        session, engine, lobby = world.sessions[0], server.node.engine, Group("lobby")
        works: dict[str, Callable[[], object]] = {
            "send": lambda: session.send("news", b"child"),
            "kick": session.kick,
            "join": lambda: lobby.add(session),
            "leave": lambda: lobby.discard(session),
            "broadcast": lambda: lobby.send("news", b"child"),
            "listen": lambda: engine.listen("tcp://127.0.0.1:0"),
            "drain": engine.drain,
            # What its loop sleeps in must not be for ever.
            "select": lambda: engine.select(None),
        }
        pid = os.fork()
        if pid == 0:
            # Whatever happens: the child must not go on as if it were the parent.
            try:
                child(works)
                status = 0
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                status = 1
            os._exit(status)
        _, status = os.waitpid(pid, 0)
        assert client.ask(b"after").body == b"after"
        assert not session.closed
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
