"""A proxy and two world nodes as real processes, each on a machine of its own, while what lies between them breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trustme

from tests.integration.game import Seen
from tests.integration.players import Player, playing
from tests.integration.realm import PROXY, WORLDS, Realm, realm

# Shorter than the 3 s of silence after which a node is lost (limits.link_silence_ms).
SHORT_SECONDS = 1.0
RESETS = 4


async def finished(players: Iterable[Player], *, lost: bool = False) -> None:
    await asyncio.gather(*(player.finish() for player in players))
    for player in players:
        player.check(lost=lost)


async def further(players: Iterable[Player], *, node: str = "") -> None:
    await asyncio.gather(*(player.further(node=node) for player in players))


def nothing_was_lost(realm: Realm) -> None:
    for world in realm.worlds:
        assert not world.seen().faults
        assert not world.seen().count("links_lost")
        assert not world.seen().ends


def cuts(seen: Seen) -> int:
    return sum(link["cuts"] for link in seen.links(PROXY))


def both(players: Iterable[Player]) -> dict[str, list[Player]]:
    """Who is at which world node; there is somebody at each."""
    there = {name: [player for player in players if player.node == name] for name in WORLDS}
    assert all(there.values())
    return there



def certified(folder: Path) -> Callable[[str], str]:
    """Gives the section [tls] of a machine with this address; they all have one authority."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))

    def section(address: str) -> str:
        pem = folder / f"{address}.pem"
        authority.issue_cert(address, key_type=trustme.KeyType.ECDSA).private_key_and_cert_chain_pem.write_to_path(str(pem))
        return f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\nclient_ca = "{folder}/authority.pem"\n'

    return section


@pytest.fixture(params=["tcp", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str] | None:
    """What makes links mutual TLS, or not."""
    return certified(tmp_path) if request.param == "tls" else None


async def test_both_world_nodes_serve(tmp_path: Path, tls: Callable[[str], str] | None) -> None:
    async with realm(tmp_path, tls=tls) as there, playing(there) as players:
        await further(players)
        both(players)
        await finished(players)
        nothing_was_lost(there)


async def test_a_short_silence(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        at = both(players)
        world = there.worlds[0]
        sent = [player.sent for player in at[world.name]]
        await asyncio.to_thread(world.machine.drop, there.proxy.machine)
        await asyncio.sleep(SHORT_SECONDS)
        await asyncio.to_thread(world.machine.heal)
        assert all(player.sent > before for player, before in zip(at[world.name], sent, strict=True))
        await further(players)
        await finished(players)
        await there.linked()
        nothing_was_lost(there)
        # What is sent again within a connection is TCP's own business.
        print([link for link in world.seen().links(PROXY)], cuts(world.seen()), world.seen().count("link_silences"))


async def test_resets(tmp_path: Path, tls: Callable[[str], str] | None) -> None:
    async with realm(tmp_path, tls=tls) as there, playing(there) as players:
        both(players)
        world = there.worlds[0]
        for number in range(RESETS):
            before = cuts(world.seen())
            await asyncio.to_thread(world.machine.reject, there.proxy.machine)
            await there.until(lambda: cuts(world.seen()) > before)
            await asyncio.to_thread(world.machine.heal)
            await there.linked()
            await further(players)
        print([link for link in world.seen().links(PROXY)], cuts(world.seen()), world.seen().count("link_silences"))
        await finished(players)
        nothing_was_lost(there)
        assert sum(link["resent"] for link in world.seen().links(PROXY)) > 0


async def test_a_long_silence(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        at = both(players)
        lost, other = there.worlds
        await asyncio.to_thread(lost.machine.drop, there.proxy.machine)
        await there.until(lambda: lost.seen().count("links_lost"))
        await further(players, node=other.name)
        await asyncio.to_thread(lost.machine.heal)
        import time
        b = time.monotonic()
        await there.linked()
        print("linked after", time.monotonic() - b)
        await further(players, node=other.name)
        async with playing(there) as more:
            await further(more)
            both(more)
            await finished(more)
        await finished(players, lost=True)
        assert set(lost.seen().ends) == {("network", "proxy-lost")}
        assert len(lost.seen().ends) == len(at[lost.name])


async def test_a_killed_world_node(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        at = both(players)
        lost, other = there.worlds
        lost.kill()
        await further(players, node=other.name)
        await lost.start()
        await there.linked()
        async with playing(there) as more:
            await further(more)
            both(more)
            await finished(more)
        await further(players, node=other.name)
        await finished(players, lost=True)


async def test_a_killed_proxy(tmp_path: Path) -> None:
    async with realm(tmp_path) as there, playing(there) as players:
        at = both(players)
        there.proxy.kill()
        for world in there.worlds:
            await there.until(lambda: len(world.seen().ends) == len(at[world.name]))
            assert set(world.seen().ends) == {("network", "proxy-lost")}
