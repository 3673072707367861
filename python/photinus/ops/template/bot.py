"""A bot that plays my-game for a few seconds: python bot.py [URL]

Run several at once, and they see each other.
"""

from __future__ import annotations

import asyncio
import random
import sys

from game import Login, Move, Moved, Said, Say, Welcome
from photinus.client import Subscription, connect
from photinus.errors import ConnectionFailed, Refused

SECONDS = 3.0
STEPS_A_SECOND = 5


async def play(url: str) -> None:
    async with connect(url) as client:
        said = client.subscribe("said", Said)
        welcome = await client.request("login", Login(f"bot-{random.randrange(10_000)}"), Welcome)
        print(f"logged in as {welcome.name}; players here: {welcome.players}")
        listening = asyncio.create_task(listen(said))
        await client.request("say", Say("hello"))
        x = y = 0.0
        steps = round(SECONDS * STEPS_A_SECOND)
        for _ in range(steps):
            moved = await client.request("move", Move(x + random.uniform(-5, 5), y + random.uniform(-5, 5)), Moved)
            x, y = moved.x, moved.y
            await asyncio.sleep(1 / STEPS_A_SECOND)
        print(f"walked {steps} steps, to {x:.1f}, {y:.1f}")
    await listening


async def listen(said: Subscription[Said]) -> None:
    async for message in said:
        print(f"{message.name}: {message.text}")


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7000"
    try:
        asyncio.run(play(url))
    except Refused as refused:
        sys.exit(f"the game refused: {refused}")
    except ConnectionFailed as error:
        sys.exit(f"{url}: {error} (is `photinus dev` running?)")


if __name__ == "__main__":
    main()
