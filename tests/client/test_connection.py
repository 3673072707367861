"""The client in the photinus protocol, against real servers through every door."""

from __future__ import annotations

import asyncio
import ssl
import sys

import pytest

from photinus import Refused
from photinus.client import Change, Client, Redirected, Renewed, Waiting, connect
from photinus.config import Limits
from photinus.errors import ConfigError, ConnectionLost, HandshakeRefused, Kicked, RequestTimeout, UsageError
from tests.adversity.doors import trusting
from tests.client.game import SCHEMES, Number, Text, World, serving, until


def connected(url: str) -> Client:
    return connect(url.replace("127.0.0.1", "localhost"), ssl=trusting())


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_requests_and_pushes(scheme: str) -> None:
    async with serving(World(), f"{scheme}://127.0.0.1:0") as node, connected(node.addresses[0]) as c:
        assert await c.request("echo", b"x") == b"x"
        assert await c.request("echo", Text("x"), Text) == Text("x")
        bodies = [b"%d" % number * 50 for number in range(500)]
        assert await asyncio.gather(*(c.request("echo", body) for body in bodies)) == bodies
        big = bytes(65_536)
        assert await c.request("echo", big) == big
        pushed, also = c.subscribe("pushed", Text), c.subscribe("pushed")
        await c.notify("push", Text("x"))
        assert [(await anext(pushed)).text for _ in range(10)] == [f"x {number}" for number in range(10)]
        assert b"x 0" in await anext(also)
        assert c.connected
        assert c.round_trip is not None
        assert 0 < c.round_trip < 5


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_leaving_ends_the_session_at_once(scheme: str) -> None:
    world = World()
    async with serving(world, f"{scheme}://127.0.0.1:0") as node:
        async with connected(node.addresses[0]) as c:
            await c.request("echo", b"x")
        await until(lambda: world.ends)
        with pytest.raises(ConnectionLost, match="closed by this client"):
            await c.request("echo", b"x")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_kick(scheme: str) -> None:
    async with serving(World(), f"{scheme}://127.0.0.1:0") as node, connected(node.addresses[0]) as c:
        pushed = c.subscribe("pushed", Text)
        with pytest.raises(Kicked, match="cheating"):
            await c.request("kick", Text("cheating"))
        assert await anext(pushed) == Text("bye")
        with pytest.raises(Kicked, match="cheating"):
            await anext(pushed)
        with pytest.raises(Kicked, match="cheating"):
            await c.notify("echo", b"x")


@pytest.mark.parametrize("options", ["format=json", "format=msgpack", "compress=zlib", "compress=zstd"])
async def test_options(options: str) -> None:
    if sys.version_info >= (3, 14) and "zstd" in options:
        pytest.importorskip("compression.zstd")
    async with serving(World(), f"tcp://127.0.0.1:0?{options}") as node, connected(node.addresses[0]) as c:
        text = Text("hello " * 1000)
        assert await c.request("echo", text, Text) == text
        assert await c.request("echo", text, Text, secret=True) == text
        raw = await c.request("echo", text)
        assert raw.startswith(b"{" if "json" in options else b"\x81")
        pushed = c.subscribe("pushed", Text)
        await c.request("push", text)
        assert (await anext(pushed)).text == f"{text.text} 0"


async def test_refusals_and_time_outs() -> None:
    world = World()
    async with serving(world, "tcp://127.0.0.1:0") as node, connected(node.addresses[0]) as c:
        with pytest.raises(Refused) as raised:
            await c.request("refuse", Text("x"))
        assert (raised.value.code, raised.value.fields) == ("too-poor", {"missing": 3})
        with pytest.raises(Refused, match="unknown-route"):
            await c.request("nowhere", b"")
        with pytest.raises(RequestTimeout, match=r"no answer to 'wait' within 0.01 s"):
            await c.request("wait", Text("x"), timeout=0.01)
        world.go_on.set()
        # The late answer is nobody's.
        assert await c.request("wait", Text("y"), Text) == Text("y")


async def test_droppable_messages() -> None:
    world = World()
    async with serving(world, "tcp://127.0.0.1:0") as node, connected(node.addresses[0]) as c:
        for number in range(10):
            await c.notify("place", Number(number), droppable=True)
        await c.request("echo", b"")
        assert world.dropped == list(range(10))


async def test_heartbeats() -> None:
    async with serving(World(), "tcp://127.0.0.1:0?heartbeat=1") as node, connected(node.addresses[0]) as c:
        before = c.server_time()
        # More than the two seconds after which either side would give up.
        await asyncio.sleep(2.5)
        assert c.connected
        # The first estimate knows the way no better than the handshake does.
        assert 2 < c.server_time() - before < 10
        assert await c.request("echo", b"x") == b"x"


async def test_clients_see_one_clock() -> None:
    url = "tcp://127.0.0.1:0"
    async with serving(World(), url) as node, connected(node.addresses[0]) as a, connected(node.addresses[0]) as b:
        error = ((a.round_trip or 0) + (b.round_trip or 0)) / 2
        before = a.server_time()
        seen = b.server_time()
        assert before - error <= seen <= a.server_time() + error
        times = [a.server_time() for _ in range(1000)]
        assert times == sorted(times)


@pytest.mark.parametrize("scheme", ["tls", "wss"])
async def test_certificates_are_verified(scheme: str) -> None:
    async with serving(World(), f"{scheme}://127.0.0.1:0") as node:
        with pytest.raises(ConnectionLost, match="certificate verify failed"):
            async with connect(node.addresses[0]):
                pass
        unbelieving = ssl.create_default_context()
        unbelieving.check_hostname = False
        unbelieving.verify_mode = ssl.CERT_NONE
        async with connect(node.addresses[0], ssl=unbelieving) as c:
            assert await c.request("echo", b"x") == b"x"


async def test_no_websocket_there() -> None:
    async with serving(World(), "tcp://127.0.0.1:0", "ws://127.0.0.1:0/game") as node:
        for url in (node.addresses[0].replace("tcp", "ws"), node.addresses[1].replace("game", "elsewhere")):
            with pytest.raises(ConnectionLost, match="no WebSocket there"):
                async with connect(url):
                    pass
        async with connect(node.addresses[1]) as c:
            assert await c.request("echo", b"x") == b"x"


async def test_a_full_server_says_so() -> None:
    url, limits = "tcp://127.0.0.1:0", Limits(sessions=1, login_queue=0)
    async with serving(World(), url, limits=limits) as node, connected(node.addresses[0]):
        with pytest.raises(HandshakeRefused) as refused:
            async with connected(node.addresses[0]):
                pass
        assert refused.value.code == "full"
        assert refused.value.retry_after is not None
        assert refused.value.retry_after > 0


async def test_a_full_server_s_line() -> None:
    async def ask() -> bytes:
        async with connect(node.addresses[0], timeout=0.2, changed=told.append) as c:
            return await c.request("echo", b"x", timeout=5)

    told: list[Change] = []
    url, limits = "tcp://127.0.0.1:0", Limits(sessions=1)
    async with serving(World(), url, limits=limits) as node:
        async with connected(node.addresses[0]):
            entering = asyncio.create_task(ask())
            await until(lambda: told)
            # Standing in line takes longer than connecting may.
            await asyncio.sleep(0.3)
            assert not entering.done()
        assert await entering == b"x"
    assert isinstance(told[0], Waiting)
    assert told[0].place == 1


async def test_entering() -> None:
    async def enter(c: Client) -> None:
        entered.append((await c.request("login", Text("Ann"), Text)).text)

    async def fail(c: Client) -> None:
        await c.request("refuse", Text(""))

    entered: list[str] = []
    async with serving(World(), "tcp://127.0.0.1:0") as node:
        async with connect(node.addresses[0], enter=enter) as c:
            assert entered == ["Ann"]
            assert (await c.request("mine", b"", Text)).text == "Ann"
        with pytest.raises(Refused, match="too-poor"):
            async with connect(node.addresses[0], enter=fail):
                pass


async def test_a_redirect() -> None:
    first, second = World(), World()
    url = "tcp://127.0.0.1:0"

    async def enter(c: Client) -> None:
        await c.request("login", Text("Ann"))

    async with serving(first, url) as here, serving(second, url) as there:
        async with connect(here.addresses[0], enter=enter) as c:
            changes = c.changes()
            await c.notify("go", Text(there.addresses[0]))
            assert await anext(changes) == Redirected(there.addresses[0])
            # The token is worth nothing there.
            assert await anext(changes) == Renewed("resume-unknown")
            assert (await c.request("mine", b"", Text)).text == "Ann"
            assert len(second.sessions) == 1
        async with connect(here.addresses[0], enter=enter) as c:
            with pytest.raises(ConnectionLost, match="no address"):
                await c.request("go", Text("nowhere"))


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1",
        "tcp://localhost",
        "tcp://:7000",
        "tcp://localhost:99999",
        "nonsense",
        "tcp://h:1?protocol=x",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError):
        connect(url)


async def test_websockets_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.client", None)
    with pytest.raises(ConfigError, match=r"pip install 'photinus\[client\]'"):
        connect("ws://localhost")


async def test_a_client_is_entered_once() -> None:
    async with serving(World(), "tcp://127.0.0.1:0") as node, connected(node.addresses[0]) as c:
        with pytest.raises(UsageError, match="once"):
            async with c:
                pass


async def test_not_connected() -> None:
    with pytest.raises(ConnectionLost, match="async with"):
        await connect("tcp://localhost:1").request("echo", b"")
    with pytest.raises(ConnectionLost, match="clock"):
        connect("tcp://localhost:1").server_time()
    with pytest.raises(ConnectionLost, match=r"refused|Connect call failed"):
        async with connect("tcp://127.0.0.1:1"):
            pass
