"""The world of the demo in a real browser: a page connects over WebSocket, if it comes from where it may."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from examples.chat.world import app
from photinus import Node
from tests.adversity.servers import wait_until
from tests.clients.pages import browser, served

pytestmark = pytest.mark.timeout(120)

# Of each step. A page is there in a second, unless the machine is busy with much else.
MILLISECONDS = 20_000


async def open_page(running: Browser, origin: str, address: str) -> Page:
    page = await (await running.new_context()).new_page()
    page.set_default_timeout(MILLISECONDS)
    await page.goto(f"{origin}/index.html?{address.partition('?')[0]}")
    return page


async def is_shown(page: Page, what: str, text: str) -> None:
    await expect(page.locator(what)).to_have_text(text, timeout=MILLISECONDS)


async def log_in(page: Page, name: str) -> None:
    await is_shown(page, "#state", "connected")
    await page.fill("#name", name)
    await page.click("#login button")


@pytest.mark.parametrize("options", ["", "&deflate=1"], ids=["plain", "deflate"])
async def test_two_pages_chat(options: str) -> None:
    with served() as origin:
        listen = [f"ws://127.0.0.1:0/world?protocol=pomelo&origins={origin}{options}"]
        async with Node(app, listen=listen) as node, browser() as running:
            ann, bob = [await open_page(running, origin, node.addresses[0]) for _ in range(2)]
            await log_in(ann, "Ann")
            await is_shown(ann, "#state", "Ann is one of 1")
            await log_in(bob, "Ann")
            await is_shown(bob, "#state", "already-online")
            await bob.fill("#name", "Bob")
            await bob.click("#login button")
            await is_shown(bob, "#state", "Bob is one of 2")
            # Long enough to be deflated where that was agreed on.
            text = "Grüße ☀ " * 40
            await ann.fill("#text", text)
            await ann.click("#say button")
            await is_shown(ann, "#state", "said")
            for page in (ann, bob):
                await is_shown(page, "#heard li", f"Ann: {text}".strip())
            await bob.close()
            await asyncio.to_thread(wait_until, lambda: node.statistics()["engine"]["sessions_closed"])
            assert node.statistics()["engine"]["sessions"] == 1
            assert node.statistics()["wire_errors"] == {}


async def test_a_page_of_another_origin_is_refused() -> None:
    with served() as origin, served() as stranger:
        listen = [f"ws://127.0.0.1:0?protocol=pomelo&origins=https://game.example,{origin}"]
        async with Node(app, listen=listen) as node, browser() as running:
            refused = await open_page(running, stranger, node.addresses[0])
            await is_shown(refused, "#state", "closed 1006")
            assert node.statistics()["wire_errors"] == {"bad-origin": 1}
            await log_in(await open_page(running, origin, node.addresses[0]), "Ann")
            assert node.statistics()["engine"]["sessions_opened"] == 1


async def test_a_page_finds_nothing_at_another_path() -> None:
    with served() as origin:
        async with Node(app, listen=["ws://127.0.0.1:0/world?protocol=pomelo"]) as node, browser() as running:
            elsewhere = node.addresses[0].replace("/world", "/another")
            await is_shown(await open_page(running, origin, elsewhere), "#state", "closed 1006")
            assert node.statistics()["wire_errors"] == {"bad-path": 1}
