"""The game: players log in with a name, talk to each other, and see each other walk.

    photinus run examples/chat/world.py --listen tcp://127.0.0.1:7000

| a client sends        | it gets                  | the others get                            |
|-----------------------|--------------------------|-------------------------------------------|
| login {"name"}        | {"name", "players"}      |                                           |
| say {"text"}          | {}, and `said` as all do | said {"name", "text"}                     |
| walk {"x", "y"}       | {}                       | walked {"moves": [{"name", "x", "y"}]}    |
| leave                 | the kick `left`          |                                           |
"""

from __future__ import annotations

from msgspec import Struct

from photinus import App, Closed, Group, Refused, Routes, Session

LONGEST_NAME = 24
LONGEST_TEXT = 500
# Clients draw between two ticks; ten a second is as often as they need to be told.
TICK_SECONDS = 0.1


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


class Walk(Struct):
    x: float
    y: float


class Move(Struct):
    name: str
    x: float
    y: float


class Walked(Struct):
    moves: list[Move]


class Leave(Struct):
    pass


class Player(Struct):
    name: str


routes = Routes()
lobby = Group("lobby")
# Where players have walked to since the last tick. A player who takes ten steps has moved once.
moves: dict[str, Move] = {}


@routes.on("login", public=True)
async def login(session: Session[Player], msg: Login) -> Welcome:
    name = msg.name.strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise Refused("bad-name", longest=LONGEST_NAME)
    # Names have no passwords here, so nobody may take one from its player.
    await session.login(name, replace=False)
    session.data = Player(name)
    lobby.add(session)
    return Welcome(name, len(lobby))


@routes.on("say")
def say(session: Session[Player], msg: Say) -> None:
    if len(msg.text) > LONGEST_TEXT:
        raise Refused("too-long", longest=LONGEST_TEXT)
    lobby.send("said", Said(session.data.name, msg.text))


@routes.on("walk")
def walk(session: Session[Player], msg: Walk) -> None:
    name = session.data.name
    moves[name] = Move(name, msg.x, msg.y)


@routes.on("leave")
def leave(session: Session[Player], msg: Leave) -> None:
    session.kick("left")


@routes.closed
def gone(session: Session[Player], reason: Closed) -> None:
    if session.player is not None:
        moves.pop(session.data.name, None)


def tell_moves() -> None:
    if moves:
        lobby.send("walked", Walked(list(moves.values())))
        moves.clear()


app = App("chat", routes=[routes])
app.every(TICK_SECONDS, tell_moves)
