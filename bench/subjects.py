"""The servers that are measured, and how each is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from . import certificate
from .machine import BUILD, compiled

SERVERS = Path(__file__).parent / "servers"

# The load's connections send more than any player's; the limit is looked at all the same.
FLOODED = {
    "PHOTINUS_LIMITS__SESSION_PACKETS_PER_S": "1000000000",
    "PHOTINUS_LIMITS__SESSION_BYTES_PER_S": "1000000000000",
}

# One reactor led by a native thread.
NATIVE_LED = {"PHOTINUS_ENGINE__THREADS": "1"}


@dataclass(frozen=True)
class Subject:
    name: str
    script: str
    """A file of servers/; `floor` or `forwarder`: the programs in C; or `bots`: the load generator, which serves as a
    floor, too, and as what is behind one."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    typed: bool = False
    """Whether it wants a msgpack Struct rather than any bytes."""
    python: Literal["none", "main", "all"] = "main"
    """Which of its threads run Python."""
    protocols: tuple[str, ...] = ("length4",)
    """Of Photinus's listeners, with their options; the load speaks the first."""
    scheme: Literal["tcp", "tls", "ws", "wss"] = "tcp"
    role: Literal["", "proxy", "world"] = ""
    """As a node of a cluster (chain.py): which one."""
    behind: tuple[Subject, ...] = ()
    """What stands behind a proxy, on the load's CPU. `{port}` in the arguments and in the environment is where the
    first of them is."""
    busy: str = ""
    """What a proxy's Python does beside (servers/busy.py): `thread` or `loop EVERY BUSY`."""
    apart: bool = False
    """Whether all but the thread that does so is on the load's CPU."""
    crowded: bool = False
    """Whether another process computes on the server's CPU meanwhile (CROWD)."""

    @property
    def encrypted(self) -> bool:
        return self.scheme in ("tls", "wss")

    @property
    def is_photinus(self) -> bool:
        return self.script.startswith("photinus_")

    def running(self, script: str, environment: Mapping[str, str]) -> Subject:
        """The same subject with another application."""
        return replace(self, script=script, environment={**self.environment, **environment})

    def command(self, bots: Path) -> list[str]:
        if self.script in ("floor", "forwarder"):
            return [str(compiled(self.script)), *self.arguments]
        files = [str(file) for file in certificate.files()] if self.encrypted else []
        if self.script == "bots":
            shown = ["--certificate", files[0], "--key", files[1]] if files else []
            return [str(bots), *self.arguments, *shown]
        script = str(SERVERS / self.script)
        listeners = [f"{self.scheme}://127.0.0.1:0?protocol={protocol}" for protocol in self.protocols]
        if self.role == "proxy":
            # It has no application that could say its statistics.
            return [sys.executable, script, *self.arguments, *listeners]
        if self.is_photinus:
            # The command that users run; nothing in the engine knows of the benchmark.
            photinus = str(Path(sys.executable).with_name("photinus"))
            listen = (f"--listen={listener}" for listener in listeners)
            return [photinus, "run", f"{script}:app", *self.arguments, *listen]
        return [sys.executable, script, *self.arguments, *files]

    def full_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOTINUS_")}
        ours = {"PYTHONPATH": str(SERVERS.parent.parent), "PYTHONUNBUFFERED": "1"}
        if self.is_photinus and self.encrypted:
            shown, key = certificate.files()
            ours |= {"PHOTINUS_TLS__CERTIFICATE": str(shown), "PHOTINUS_TLS__KEY": str(key)}
        return {**inherited, **FLOODED, **self.environment, **ours}


ECHO = (
    Subject("floor", "floor", ("echo",), python="none"),
    Subject("asyncio", "protocols.py", ("asyncio",)),
    Subject("uvloop", "protocols.py", ("uvloop",)),
    Subject("uvloop-joined", "protocols.py", ("uvloop-joined",)),
    Subject("threads", "threads.py", python="all"),
    Subject("photinus-bytes", "photinus_bytes.py"),
    Subject("photinus-typed", "photinus_typed.py", environment=NATIVE_LED, typed=True),
    Subject("photinus-async", "photinus_async.py", environment=NATIVE_LED),
    Subject("photinus-native-led", "photinus_bytes.py", environment=NATIVE_LED),
)

BROADCAST = (
    Subject("floor", "floor", ("broadcast",), python="none"),
    Subject("uvloop", "protocols.py", ("uvloop-broadcast",)),
    Subject("photinus-bytes", "photinus_broadcast.py"),
    Subject("photinus-native-led", "photinus_broadcast.py", environment=NATIVE_LED),
)

MEMORY = (
    Subject("uvloop", "protocols.py", ("uvloop",)),
    Subject("photinus-bytes", "photinus_bytes.py"),
    Subject("photinus-bytes-tls", "photinus_bytes.py", scheme="tls"),
    Subject("photinus-bytes-ws", "photinus_bytes.py", scheme="ws"),
    Subject("photinus-bytes-wss", "photinus_bytes.py", scheme="wss"),
)

# One reactor led by a native thread, so that what Python costs shows by itself; through several doors.
_TCP = Subject("photinus-tcp", "photinus_bytes.py", environment=NATIVE_LED)
_WSS = replace(_TCP, name="photinus-wss", scheme="wss")

TLS = (
    Subject("asyncio-ssl", "protocols.py", ("asyncio",), scheme="tls"),
    Subject("asyncio-ssl-joined", "protocols.py", ("asyncio-joined",), scheme="tls"),
    Subject("uvloop-ssl", "protocols.py", ("uvloop",), scheme="tls"),
    Subject("uvloop-ssl-joined", "protocols.py", ("uvloop-joined",), scheme="tls"),
    _TCP,
    replace(_TCP, name="photinus-tls", scheme="tls"),
)
WEBSOCKET = (_TCP, replace(_TCP, name="photinus-ws", scheme="ws"), _WSS)

_ASKED = Subject("pomelo-plain", "photinus_asked.py", environment=NATIVE_LED, protocols=("pomelo",))
COMPRESSION = (
    _ASKED,
    replace(_ASKED, name="pomelo-zlib", protocols=("pomelo&compress=zlib",)),
    replace(_ASKED, name="photinus-plain", protocols=("photinus",)),
    replace(_ASKED, name="photinus-zlib", protocols=("photinus&compress=zlib",)),
)

RESUME = (
    Subject("photinus-tcp", "photinus_pushes.py", protocols=("photinus",)),
    Subject("photinus-wss", "photinus_pushes.py", protocols=("photinus",), scheme="wss"),
)

HANDSHAKES = (
    Subject("floor", "bots", ("bare",), python="none", scheme="tls"),
    Subject("photinus-bytes", "photinus_bytes.py", scheme="tls"),
    Subject("photinus-native-led", "photinus_bytes.py", environment=NATIVE_LED, scheme="tls"),
)

# The same servers with applications of their own (pace.py).
PACE = (
    Subject("photinus-bytes", "photinus_bytes.py", protocols=("length4", "pomelo")),
    Subject("photinus-native-led", "photinus_bytes.py", environment=NATIVE_LED, protocols=("length4", "pomelo")),
)

# What a world answers (proxy.py makes it): each line a value of JSON.
ANSWERS = BUILD / "answers.jsonl"

# What forwards, and what gives back behind it.
_ECHO = Subject("echo", "forwarder", ("echo",), python="none")
_NATIVE_ECHO = Subject(
    "world",
    "photinus_bytes.py",
    environment={**NATIVE_LED, "PHOTINUS_NATIVE__APPS": "echo"},
    protocols=(),
    role="world",
)
_FORWARDING = Subject("photinus", "photinus_proxy.py", environment=NATIVE_LED, role="proxy", behind=(_NATIVE_ECHO,))
_UVLOOP_PROXY = Subject("uvloop", "uvloop_proxy.py", ("{port}",), behind=(_ECHO,))
# Keeps a CPU busy that nothing else of what is measured is on.
CROWD = Subject("crowd", "crowd.py", protocols=())
# The loop's thread computes in pieces of a tenth of a second, one after the other.
_PIECES = "loop 0.1 0.1"
FORWARD = (
    Subject("floor", "forwarder", ("proxy", "{port}"), python="none", behind=(_ECHO,)),
    _FORWARDING,
    _UVLOOP_PROXY,
    replace(_FORWARDING, name="photinus-idle-python", apart=True),
    replace(_FORWARDING, name="photinus-crowded", apart=True, crowded=True),
    replace(_FORWARDING, name="photinus-busy-python", busy="thread", apart=True),
    replace(_FORWARDING, name="photinus-busy-pieces", busy=_PIECES, apart=True),
    replace(_UVLOOP_PROXY, name="uvloop-idle-python", apart=True),
    replace(_UVLOOP_PROXY, name="uvloop-busy-python", busy="thread", apart=True),
    replace(_UVLOOP_PROXY, name="uvloop-busy-pieces", busy=_PIECES, apart=True),
)

# The model's own result (proxy.py): who stands between users and their world.
_WORLD = Subject("world", "bots", ("world", "--answers", str(ANSWERS)), python="none")
_A = replace(_UVLOOP_PROXY, arguments=("{port}", "--zlib"), scheme="tls", behind=(_WORLD,))
_UPSTREAM = {"BENCH_UPSTREAM": "{port}"}
_ROUTED = Subject(
    "photinus-routed",
    "photinus_router.py",
    environment={**NATIVE_LED, **_UPSTREAM, "BENCH_ZLIB": "1"},
    protocols=("photinus",),
    scheme="tls",
    behind=(_WORLD,),
)
_ANSWERING = {**NATIVE_LED, "BENCH_ANSWERS": str(ANSWERS)}
_D = Subject(
    "photinus",
    "photinus_proxy.py",
    environment=NATIVE_LED,
    protocols=("photinus&compress=zlib",),
    scheme="tls",
    role="proxy",
    behind=(Subject("world", "photinus_world.py", environment=_ANSWERING, protocols=(), role="world"),),
)
# Ten of every twenty milliseconds, on the loop's thread.
_HALF = "loop 0.02 0.01"
PROXY = (
    Subject("floor", "forwarder", ("proxy", "{port}"), python="none", behind=(_WORLD,)),
    Subject(
        "native",
        "bots",
        ("bare-forward", "--compress", "--upstream", "127.0.0.1:{port}"),
        python="none",
        scheme="tls",
        behind=(_WORLD,),
    ),
    _A,
    _ROUTED,
    replace(
        _ROUTED,
        name="photinus-routed-zlib",
        environment={**NATIVE_LED, **_UPSTREAM},
        protocols=("photinus&compress=zlib",),
    ),
    _D,
    replace(_A, name="uvloop-half-busy", busy=_HALF),
    replace(_D, name="photinus-half-busy", busy=_HALF),
)

# A local broadcast, and one to members on proxies.
MULTICAST = (
    Subject("local", "photinus_broadcast.py", environment=NATIVE_LED),
    Subject(
        "photinus",
        "photinus_proxy.py",
        environment=NATIVE_LED,
        role="proxy",
        behind=(Subject("world", "photinus_broadcast.py", environment=NATIVE_LED, protocols=(), role="world"),),
    ),
)

# Two world nodes, as they come; the one in front calls.
CALL = (
    Subject(
        "photinus",
        "photinus_caller.py",
        protocols=(),
        role="world",
        behind=(Subject("callee", "photinus_callee.py", protocols=(), role="world"),),
    ),
)
