"""The console attacked through what it shows and through its addresses. Cross-site requests: test_access.py; escalation
of roles and session fixation: test_roles.py."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright

from cloud.api.access import first_log_in_link
from cloud.api.testing import PASSWORD, World, served
from cloud.model.records import EventRecord, Severity
from cloud.store.errors import StoreError

EVIL = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, allow_password_only=True)
    yield world
    world.ledger.close()


@pytest.fixture
async def operator(world: World) -> AsyncIterator[httpx.AsyncClient]:
    link = first_log_in_link(world.ledger, "http://console.test", world.now)
    assert link is not None
    transport = httpx.ASGITransport(app=world.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
        await client.post(link, data={"username": "ada", "password": PASSWORD, "repeat": PASSWORD})
        yield client


@pytest.mark.parametrize("name", ["<script>", "a b", "../x", "a.b", "*", ">", "", "x" * 64, "A"])
def test_site_and_group_names_cannot_be_markup_wildcards_or_paths(world: World, name: str) -> None:
    with pytest.raises((StoreError, ValueError)):
        world.ledger.add_site(name, (), world.now_ms)
    with pytest.raises((StoreError, ValueError)):
        world.ledger.add_site("home-01", (name,), world.now_ms)


async def test_script_in_what_a_gateway_says_is_shown_as_text(world: World, chromium_path: str) -> None:
    """A stolen gateway writes events; the operator's browser shows them and runs nothing of them."""
    world.add_site("home-01", "fast")
    world.ledger.add_event(
        EventRecord(site="home-01", event_id="e", at_ms=world.now_ms, severity=Severity.ALARM, code=EVIL, text=EVIL)
    )
    link = first_log_in_link(world.ledger, "", world.now)
    assert link is not None
    async with served(world) as address, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        page = await browser.new_page()
        broken: list[str] = []
        page.on("console", lambda message: broken.append(message.text) if message.type == "error" else None)
        await page.goto(address + link)
        await page.fill("#password", PASSWORD)
        await page.fill("#repeat", PASSWORD)
        await page.click("button[type=submit]")
        shown = page.locator("#event-list .event").first
        await shown.wait_for()
        assert EVIL in await shown.inner_text()
        assert await page.locator("#event-list img, #event-list script").count() == 0
        assert await page.title() == "Live · Murmuration"
        assert not broken
        await browser.close()


@pytest.mark.parametrize("target", ["//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)"])
async def test_log_in_leads_nowhere_else(operator: httpx.AsyncClient, target: str) -> None:
    form = {"username": "ada", "password": PASSWORD, "next": target}
    answer = await operator.post("/log-in", params={"next": target}, data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../templates/live.html",
        "/static/%2e%2e/templates/live.html",
        "/static/..%2fapp.py",
        "/static/vendor/..%2f..%2fpackage.json",
        "/static/vendor/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/....//....//etc/passwd",
        "/static/%00",
    ],
)
async def test_paths_stay_inside_the_static_folder(operator: httpx.AsyncClient, path: str) -> None:
    answer = await operator.get(path)
    assert answer.status_code in {400, 404}
    assert not re.search(r"root:|{% |\"dependencies\"", answer.text)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a_header_does_not_move_the_address_that_is_locked_out(world: World, header: str) -> None:
    transport = httpx.ASGITransport(app=world.app, client=("192.0.2.66", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
        answers = [
            await client.post("/log-in", data={"username": f"u{n}", "password": "x"}, headers={header: f"10.0.0.{n}"})
            for n in range(21)
        ]
    assert answers[-1].status_code == 429
