"""A client for the terminal: what is typed is said, what others say is shown.

python -m examples.chat.play tcp://127.0.0.1:7000 --name Ann
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from photinus.client import Client, Subscription, connect
from photinus.errors import ConnectionFailed, Refused

from .world import Login, Said, Say, Walked, Welcome


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.chat.play", description=__doc__)
    parser.add_argument("url", help="of the world, such as tcp://127.0.0.1:7000")
    parser.add_argument("--name", default="guest", help="who you are (%(default)s)")
    arguments = parser.parse_args()
    try:
        asyncio.run(play(arguments.url, arguments.name))
    except Refused as error:
        sys.exit(f"the world refused: {error}")
    except ConnectionFailed as error:
        sys.exit(f"the connection ended: {error}")
    except KeyboardInterrupt:
        pass


async def play(url: str, name: str) -> None:
    async with connect(url) as client:
        said = client.subscribe("said", Said)
        walked = client.subscribe("walked", Walked)
        welcome = await client.request("login", Login(name), Welcome)
        print(f"{welcome.name}, there are {welcome.players} players here. Say something; Ctrl-D leaves.")
        tasks = [asyncio.create_task(work) for work in (talk(client), listen(said), watch(walked))]
        ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.gather(*ended)


async def talk(client: Client) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if text := line.decode(errors="replace").strip():
            await client.request("say", Say(text))


async def listen(said: Subscription[Said]) -> None:
    async for message in said:
        print(f"{message.name}: {message.text}")


async def watch(walked: Subscription[Walked]) -> None:
    """Shows once in a while that there is life; every step would be a blur."""
    players: set[str] = set()
    tell = asyncio.get_running_loop().time() + 5
    async for message in walked:
        players.update(move.name for move in message.moves)
        if asyncio.get_running_loop().time() >= tell:
            print(f"({len(players)} players are walking about)")
            players.clear()
            tell += 5


if __name__ == "__main__":
    main()
