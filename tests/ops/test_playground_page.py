"""The playground's page in a real browser, on the game of `photinus new`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import Locator, Page, expect

from photinus.ops.new import new_game
from tests.clients.pages import browser
from tests.ops.development import PATIENCE, Development, developing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MILLISECONDS = PATIENCE * 1000

# Every kind of field, and routes of every kind.
FORGE = """\
import enum
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from photinus import App, Routes, Session


class Colour(enum.Enum):
    BLUE = "blue"
    RED = "red"


class Place(Struct, frozen=True):
    x: float
    y: float = 0.5


class Sword(Struct, tag=True):
    damage: int


class Potion(Struct, tag="drink"):
    sips: int = 3


class Craft(Struct):
    name: Annotated[str, Meta(max_length=9, description="What the others see.")]
    level: Annotated[int, Meta(ge=1, le=9)]
    number: int
    colour: Colour
    mode: Literal["fast", "slow"]
    at: Place
    what: Sword | Potion
    gold: int | None
    loud: bool = True
    path: list[Place] = []
    stats: dict[str, int] = {}
    pair: tuple[int, str] = (1, "a")
    extra: Any = None
    note: str | UnsetType = UNSET


routes = Routes()


@routes.on("craft", public=True)
def craft(session: Session, msg: Craft) -> Craft:
    \"\"\"Makes an item.\"\"\"
    return msg


@routes.on("echo", public=True)
def echo(session: Session, body: bytes) -> bytes:
    return body


@routes.on("out", public=True)
def out(session: Session, body: bytes) -> None:
    session.kick("enough")


@routes.on("ban", roles=("gm", "admin"))
def ban(session: Session, msg: Place) -> None: ...


@routes.on(101)
def walk(session: Session, msg: Place) -> None: ...


@routes.default
def anything(session: Session, body: bytes) -> None: ...


app = App("forge", routes=[routes])
"""


class Playground:
    """The page, as one who looks at it would speak of it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def choose(self, route: str) -> None:
        await self.page.locator("nav .item").filter(has=self.page.get_by_text(route, exact=True)).click()

    def field(self, name: str) -> Locator:
        return self.page.get_by_label(name, exact=True)

    async def request(self) -> None:
        await self.page.get_by_role("button", name="Request").click()

    async def send(self, route: str, **fields: str) -> None:
        await self.choose(route)
        for name, value in fields.items():
            await self.field(name).fill(value)
        await self.request()

    @property
    def panel(self) -> Locator:
        """That of the player who is chosen."""
        return self.page.locator(".panel.chosen")

    def entries(self, kind: str, text: str = "") -> Locator:
        return self.panel.locator(f".entry.{kind}").filter(has_text=text)

    async def connected(self) -> None:
        await expect(self.panel).to_have_attribute("data-state", "connected")

    async def player(self, number: int) -> None:
        await self.page.get_by_role("tab", name=f"player {number}").click()


@asynccontextmanager
async def opened(dev: Development, **options: object) -> AsyncIterator[Playground]:
    """The page of this game; nothing may go wrong in it that nobody sees."""
    expect.set_options(timeout=MILLISECONDS)
    url = (await dev.until("  try     ")).split()[1]
    complaints: list[str] = []
    async with browser() as running:
        page = await running.new_page(**options)  # type: ignore[arg-type]
        page.set_default_timeout(MILLISECONDS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        await page.goto(url)
        playground = Playground(page)
        await playground.connected()
        yield playground
        # When the game has ended the browser tells of the server that it misses.
        assert [complaint for complaint in complaints if "net::ERR_" not in complaint] == []


async def test_two_players_by_hand(tmp_path: Path) -> None:
    game = new_game("harbour", tmp_path)
    async with developing(game, "--playground", "0") as dev, opened(dev) as play:
        page = play.page
        await expect(page.locator(".game")).to_have_text("harbour")
        await expect(page.locator("nav .key")).to_have_text(["login", "say", "move"])
        # Not logged in yet.
        await play.send("say", text="hello?")
        await expect(page.locator("form > .trouble")).to_contain_text("login-required")
        await play.send("login", name="Ann")
        await expect(play.entries("reply")).to_contain_text('login{"name": "Ann", "players": 1}')
        # The second one has a session of its own, and what it says comes to the first one.
        await page.get_by_role("button", name="+ player").click()
        await play.connected()
        await play.send("login", name="Bob")
        await expect(play.entries("reply")).to_contain_text('{"name": "Bob", "players": 2}')
        await play.choose("say")
        await play.field("text").fill("ahoy")
        await page.keyboard.press("Control+Enter")
        await expect(play.entries("reply")).to_have_count(2)
        await play.player(1)
        push = play.entries("push", "said")
        await expect(push).to_contain_text('{"name": "Bob", "text": "ahoy"}')
        # It opens as a tree, and its route can be hidden.
        await push.locator("summary").first.click()
        await expect(push.locator(".json li")).to_have_text(['name: "Bob"', 'text: "ahoy"'])
        chip = play.panel.locator(".chip.push", has_text="said")
        await chip.click()
        await expect(push).to_be_hidden()
        await chip.click()
        await expect(push).to_be_visible()
        # A field that does not decode is marked, with the server's words; a refusal has its fields.
        await play.send("move", x="far", y="1")
        wrong = page.locator(".line.wrong")
        await expect(wrong.locator(".name")).to_have_text("x")
        await expect(wrong.locator(".trouble")).to_have_text("Expected `float`, got `str`")
        await expect(play.entries("error", "bad-message")).to_have_count(1)
        await play.send("move", x="99")
        await expect(wrong).to_have_count(0)
        await expect(page.locator("form > .trouble")).to_have_text('too-far {"longest": 10}')
        # The players are shown beside each other.
        await page.get_by_role("button", name="Side by side").click()
        await expect(page.locator(".panel:visible")).to_have_count(2)
        assert await dev.end() == 0


async def test_cutting_and_resuming_loses_nothing(tmp_path: Path) -> None:
    game = new_game("harbour", tmp_path)
    async with developing(game, "--playground", "0") as dev, opened(dev) as play:
        page = play.page
        await play.send("login", name="Ann")
        await expect(play.entries("reply")).to_have_count(1)
        await page.get_by_role("button", name="+ player").click()
        await play.connected()
        await play.send("login", name="Bob")
        await expect(play.entries("reply")).to_have_count(1)
        await play.panel.get_by_role("button", name="Cut the connection").click()
        await expect(play.panel).to_have_attribute("data-state", "cut")
        # What Bob says while he is cut off is kept, and so is what Ann says to him.
        await play.send("say", text="from Bob, cut off")
        await expect(play.entries("request", "kept until connected")).to_have_count(1)
        await play.player(1)
        for number in range(5):
            await play.send("say", text=f"to Bob {number}")
            await expect(play.entries("reply")).to_have_count(2 + number)
        await play.player(2)
        await expect(play.entries("push")).to_have_count(0)
        await play.panel.get_by_role("button", name="Reconnect").click()
        await expect(play.entries("event", "nothing was lost")).to_have_count(1)
        await expect(play.entries("push").locator(".preview")).to_have_text(
            [f'{{"name": "Ann", "text": "to Bob {number}"}}' for number in range(5)]
        )
        await expect(play.entries("reply")).to_have_count(2)
        await play.player(1)
        await expect(play.entries("push", "from Bob, cut off")).to_have_count(1)
        # A farewell ends the session: the others are told, and a new one has to log in.
        await play.player(2)
        await play.panel.get_by_role("button", name="Leave").click()
        await expect(play.panel).to_have_attribute("data-state", "ended")
        await play.panel.get_by_role("button", name="Connect", exact=True).click()
        await play.connected()
        await play.send("say", text="who am I?")
        await expect(page.locator("form > .trouble")).to_contain_text("login-required")
        await play.player(1)
        await expect(play.entries("push", "Bob left")).to_have_count(1)
        assert await dev.end() == 0


async def test_a_gap_is_told(tmp_path: Path) -> None:
    game = new_game("harbour", tmp_path)
    async with (
        developing(game, "--playground", "0", PHOTINUS_LIMITS__RESUME_SESSION_BYTES="1024") as dev,
        opened(dev) as play,
    ):
        await play.send("login", name="Ann")
        await expect(play.entries("reply")).to_have_count(1)
        await play.page.get_by_role("button", name="+ player").click()
        await play.connected()
        await play.send("login", name="Bob")
        await expect(play.entries("reply")).to_have_count(1)
        await play.panel.get_by_role("button", name="Cut the connection").click()
        await play.player(1)
        # The server has no room for all of them.
        for number in range(10):
            await play.send("say", text=f"{number} " + "x" * 200)
            await expect(play.entries("reply")).to_have_count(2 + number)
        await play.player(2)
        await play.panel.get_by_role("button", name="Reconnect").click()
        await expect(play.entries("event", "a gap: 10 of the server's messages were lost")).to_have_count(1)
        # The session goes on.
        await play.player(1)
        await play.send("say", text="again")
        await play.player(2)
        await expect(play.entries("push", "again")).to_have_count(1)
        await expect(play.entries("push")).to_have_count(1)
        assert await dev.end() == 0


async def test_a_page_that_was_left_open_finds_the_game_again(tmp_path: Path) -> None:
    game = new_game("harbour", tmp_path)
    async with developing(game, "--playground", "0") as dev, opened(dev) as play:
        await play.choose("move")
        await play.field("x").fill("3.5")
        port = play.page.url.removesuffix("/").rpartition(":")[2]
        assert await dev.end() == 0
        await expect(play.page.locator(".status.warn")).to_be_visible()
        await expect(play.panel).to_have_attribute("data-state", "ended")
        async with developing(game, "--playground", port) as again:
            # Another process, another session: connected by itself, and what was typed is still there.
            await play.connected()
            await expect(play.page.locator(".detail h2")).to_have_text("move")
            await expect(play.field("x")).to_have_value("3.5")
            await play.send("login", name="Ann")
            await expect(play.entries("reply")).to_have_count(1)
            assert await again.end() == 0


async def test_a_save_reloads_the_forms(tmp_path: Path) -> None:
    game = new_game("harbour", tmp_path)
    file = game / "game.py"
    text = file.read_text()
    async with developing(game, "--playground", "0") as dev, opened(dev) as play:
        page = play.page
        await play.send("login", name="Ann")
        await play.choose("move")
        await play.field("x").fill("3.5")
        await play.field("y").focus()
        # A field is new, and a route has another name: what was typed stays where it fits.
        edited = text.replace("    x: float\n    y: float\n\n", "    x: float\n    y: float\n    fast: bool = True\n\n")
        edited = edited.replace('@routes.on("say")', '@routes.on("tell")')
        file.write_text(edited)
        await expect(page.locator("nav .key")).to_have_text(["login", "tell", "move"])
        await expect(play.field("fast")).to_be_checked()
        await expect(play.field("x")).to_have_value("3.5")
        await expect(page.locator("nav .item", has_text="tell").locator(".mark")).to_have_text("added")
        await expect(page.locator("nav .item", has_text="move").locator(".mark")).to_have_text("changed")
        await expect(page.locator(".status.good")).to_contain_text("game.py; added tell; removed say; changed move")
        # The session is the same one.
        await play.request()
        await expect(play.entries("reply", "move")).to_contain_text('"x": 3.5')
        # What cannot be loaded is shown, and the old code goes on.
        file.write_text(edited.replace("app = App(", "app = = App("))
        await expect(page.locator(".status.bad")).to_contain_text("SyntaxError")
        await play.request()
        await expect(play.entries("reply", "move")).to_have_count(2)
        file.write_text(text)
        await expect(page.locator("nav .key")).to_have_text(["login", "say", "move"])
        await expect(page.locator(".status.bad")).to_have_count(0)
        assert await dev.end() == 0
        await expect(page.locator(".status.warn")).to_contain_text("does not answer")


async def test_every_kind_of_field(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text(FORGE)
    async with developing(tmp_path, "--playground", "0") as dev, opened(dev, color_scheme="dark") as play:
        page = play.page
        await expect(page.locator("nav .who")).to_have_text(
            ["anyone", "anyone", "anyone", "admin, gm", "logged in", "anyone"]
        )
        await expect(page.locator(".detail .doc")).to_have_text("Makes an item.")
        await expect(page.locator(".line", has=play.field("level")).locator(".hint").first).to_have_text(
            "integer · 1 … 9"
        )
        await play.field("name").fill("Dawn")
        await play.field("level").press("ArrowUp")
        # More than a number of the browser's can count.
        await play.field("number").fill("12345678901234567")
        await play.field("colour").select_option("red")
        await play.field("mode").select_option("slow")
        await play.field("x").fill("2")
        await page.get_by_text("Potion", exact=True).click()
        await play.field("loud").uncheck()
        await page.get_by_role("button", name="Add Place").click()
        await page.get_by_role("button", name="Add Place").click()
        await page.get_by_role("button", name="Remove").first.click()
        await page.get_by_role("button", name="Add integer").click()
        await page.get_by_label("key", exact=True).fill("luck")
        await play.field("extra").fill('{"any": [1, null]}')
        await play.request()
        said = (
            '{"name": "Dawn", "level": 2, "number": 12345678901234567, "colour": "red", "mode": "slow", '
            '"at": {"x": 2, "y": 0.5}, "what": {"type": "drink", "sips": 3}, "gold": null, "loud": false, '
            '"path": [{"x": 0, "y": 0.5}], "stats": {"luck": 0}, "pair": [1, "a"], "extra": {"any": [1, null]}}'
        )
        await expect(play.entries("request").locator(".preview")).to_have_text(said)
        await expect(play.entries("reply").locator(".preview")).to_have_text(said)
        # As JSON, which is sent as it stands.
        await page.get_by_role("button", name="JSON", exact=True).click()
        await page.get_by_label("Payload").fill('{"name":')
        await play.request()
        await expect(page.locator("form > .trouble")).to_contain_text("bad-message")
        # What was sent before comes back into the form.
        first = play.entries("request").first
        await first.locator("summary").first.click()
        await first.get_by_role("button", name="Put into the form").click()
        await page.get_by_role("button", name="Form", exact=True).click()
        await expect(play.field("number")).to_have_value("12345678901234567")
        await play.field("level").fill("77")
        await play.request()
        await expect(page.locator(".line.wrong > .head .name")).to_have_text("level")
        # Bytes.
        await play.choose("echo")
        await page.get_by_label("Payload").fill("ünstructured")
        await play.request()
        await expect(play.entries("reply", "echo").locator(".preview")).to_have_text("ünstructured")
        # Routes of other protocols are listed, and cannot be called from here.
        for route, whose in (("101", "Firefly"), ("(default)", "without a route")):
            await play.choose(route)
            await expect(page.locator(".detail .note")).to_contain_text(whose)
            await expect(page.get_by_role("button", name="Request")).to_be_disabled()
        # The end of a session is told.
        await play.choose("out")
        await play.request()
        await expect(play.entries("event", "kicked: enough")).to_have_count(1)
        await expect(play.panel).to_have_attribute("data-state", "ended")
        assert await dev.end() == 0
