"""my-game: players log in with a name, talk to each other, and walk about.

| a client sends        | it gets             | the others get            |
|-----------------------|---------------------|---------------------------|
| login {"name"}        | {"name", "players"} |                           |
| say {"text"}          | {}                  | said {"name", "text"}     |
| move {"x", "y"}       | {"name", "x", "y"}  | moved {"name", "x", "y"}  |

Under `photinus dev` a saved edit of this file is in play at once, and nobody is disconnected: sessions
keep what is in `session.data`, and the groups they are in. The names of this module begin anew.
"""

from __future__ import annotations

from msgspec import Struct

from photinus import App, Closed, Group, Refused, Routes, Session

LONGEST_NAME = 24
LONGEST_STEP = 10.0


class Login(Struct):
    name: str


class Welcome(Struct):
    name: str
    players: int


class Say(Struct):
    text: str


class Said(Struct):
    name: str
    text: str


class Move(Struct):
    x: float
    y: float


class Moved(Struct):
    name: str
    x: float
    y: float


class Hero(Struct):
    """What the game knows of a player: `session.data`. A field that you add here wants a default."""

    name: str
    x: float = 0.0
    y: float = 0.0


lobby = Group("lobby")
routes = Routes()


@routes.on("login", public=True)  # every other route needs a login
async def login(session: Session[Hero], msg: Login) -> Welcome:
    name = msg.name.strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise Refused("bad-name", longest=LONGEST_NAME)
    # Names have no passwords here, so nobody may take one from its player.
    await session.login(name, replace=False)
    session.data = Hero(name)
    lobby.add(session)
    return Welcome(name, players=len(lobby))


@routes.on("say")
def say(session: Session[Hero], msg: Say) -> None:
    lobby.send("said", Said(session.data.name, msg.text), but=session)


@routes.on("move")
def move(session: Session[Hero], msg: Move) -> Moved:
    hero = session.data
    if abs(msg.x - hero.x) > LONGEST_STEP or abs(msg.y - hero.y) > LONGEST_STEP:
        raise Refused("too-far", longest=LONGEST_STEP)
    hero.x, hero.y = msg.x, msg.y
    moved = Moved(hero.name, hero.x, hero.y)
    lobby.send("moved", moved, but=session)
    return moved


@routes.closed
def gone(session: Session[Hero], reason: Closed) -> None:
    if session.player is not None:
        lobby.send("said", Said("the game", f"{session.data.name} left"))


app = App("my-game", routes=[routes])
