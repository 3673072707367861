"""A proxy and two world nodes as real processes, each on a machine of its own, while what lies between them breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trustme

from tests.client.relay import relaying
from tests.integration.machines import Machine
from tests.integration.players import Player, playing
from tests.integration.realm import PROXY, WORLDS, Node, Realm, Tls, realm

# Shorter than the 3 s of silence after which a node is lost (limits.link_silence_ms).
SHORT_SECONDS = 1.0
RESETS = 4
CUTS = 4


async def finished(players: Iterable[Player], *, lost: bool = False, cut: bool = False) -> None:
    await asyncio.gather(*(player.finish() for player in players))
    for player in players:
        player.check(lost=lost, cut=cut)


async def further(players: Iterable[Player], *, node: str = "") -> None:
    await asyncio.gather(*(player.further(node=node) for player in players))


async def newcomers(realm: Realm) -> None:
    """Both world nodes get new sessions, and serve them."""
    async with playing(realm) as players:
        await further(players)
        both(players)
        await finished(players)


def both(players: Iterable[Player]) -> dict[str, list[Player]]:
    """Who is at which world node; there is somebody at each."""
    there = {name: [player for player in players if player.node == name] for name in WORLDS}
    assert all(there.values())
    return there


def nothing_was_lost(realm: Realm) -> None:
    for world in realm.worlds:
        seen = world.seen()
        assert not seen.faults
        assert not seen.ends
        assert not seen.rehomed
        assert not seen.count("links_lost")


def total(world: Node, name: str) -> int:
    """Of its links with the proxy together."""
    return sum(int(link[name]) for link in world.seen().links(PROXY))


async def do(change: Callable[..., None], *arguments: Machine) -> None:
    """While the players play on."""
    await asyncio.to_thread(change, *arguments)


def certified(folder: Path) -> Callable[[str], str]:
    """Gives the section [tls] of a machine with this address; they all have one authority."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))

    def section(address: str) -> str:
        pem = folder / f"{address}.pem"
        certificate = authority.issue_cert(address, key_type=trustme.KeyType.ECDSA)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
        return f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\nclient_ca = "{folder}/authority.pem"\n'

    return section


@pytest.fixture(params=["tcp", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> Tls:
    """What makes links mutual TLS, or not."""
    return certified(tmp_path) if request.param == "tls" else None


async def test_both_world_nodes_serve(tmp_path: Path, tls: Tls) -> None:
    async with realm(tmp_path, tls=tls) as there, playing(there) as players:
        await further(players)
        both(players)
        await finished(players)
        nothing_was_lost(there)


async def test_who_is_cut_finds_a_session_on_whichever_reactor_it_is(tmp_path: Path) -> None:
    """The proxy gives a new connection to the reactor with the fewest, which seldom is the one where its session lives;
    the session's home is at another node."""
    async with (
        realm(tmp_path, reactors=3) as there,
        relaying(there.photinus) as relay,
        playing(there, photinus=9, length=0, through=relay.url) as players,
    ):
        both(players)
        for _ in range(CUTS):
            relay.cut()
            await further(players)
        await finished(players, cut=True)
        assert relay.connections >= (1 + CUTS) * len(players)
        nothing_was_lost(there)


async def test_a_short_silence(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        world = there.worlds[0]
        await do(world.machine.drop, there.proxy.machine)
        await asyncio.sleep(SHORT_SECONDS)
        await do(world.machine.heal)
        assert all(player.sent > len(player.answers) for player in both(players)[world.name])
        await further(players)
        await finished(players)
        await there.linked()
        nothing_was_lost(there)


async def test_resets(tmp_path: Path, tls: Tls) -> None:
    async with realm(tmp_path, tls=tls) as there, playing(there) as players:
        both(players)
        world = there.worlds[0]
        for _ in range(RESETS):
            before = total(world, "cuts")
            await do(world.machine.reject, there.proxy.machine)
            await there.until(lambda: total(world, "cuts") > before)  # noqa: B023 - it is over when this line is
            await do(world.machine.heal)
            await there.linked()
            await further(players)
        await finished(players)
        nothing_was_lost(there)
        # The world node ticks, so it had always written something that was refused.
        assert total(world, "cuts") >= RESETS
        assert total(world, "resent") > 0


async def test_a_long_silence(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        at = both(players)
        lost, other = there.worlds
        await do(lost.machine.drop, there.proxy.machine)
        await further(players, node=other.name)
        await there.until(lambda: len(lost.seen().ends) == len(at[lost.name]))
        assert set(lost.seen().ends) == {("network", "proxy-lost")}
        assert other.seen().rehomed == len(at[lost.name])
        await do(lost.machine.heal)
        await there.linked()
        await newcomers(there)
        await further(players, node=other.name)
        await finished(players, lost=True)
        assert not other.seen().faults


async def test_a_killed_world_node(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        at = both(players)
        lost, other = there.worlds
        lost.kill()
        await further(players, node=other.name)
        assert other.seen().rehomed == len(at[lost.name])
        await lost.start()
        await there.linked()
        await newcomers(there)
        await further(players, node=other.name)
        await finished(players, lost=True)
        assert not other.seen().faults


async def test_a_killed_proxy(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        at = both(players)
        there.proxy.kill()
        lost = {name: [("network", "proxy-lost")] * len(its) for name, its in at.items()}
        await there.until(lambda: {world.name: world.seen().ends for world in there.worlds} == lost)
        await there.proxy.start()
        await there.linked()
        await newcomers(there)
