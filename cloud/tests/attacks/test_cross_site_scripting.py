"""Script in what the console shows: names, events, reasons, the log."""

import pytest
from playwright.async_api import async_playwright

from cloud.api.access import first_log_in_link
from cloud.api.testing import PASSWORD, World, person, served
from cloud.model.approval import Limits
from cloud.model.records import EventRecord, Severity
from cloud.store.errors import StoreError

EVIL = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"]


@pytest.mark.parametrize("name", ["<script>", "a b", "../x", "a.b", "*", ">", "", "x" * 64, "A"])
def test_site_and_group_names_cannot_be_markup_wildcards_or_paths(world: World, name: str) -> None:
    with pytest.raises((StoreError, ValueError)):
        world.ledger.add_site(name, (), world.now_ms)
    with pytest.raises((StoreError, ValueError)):
        world.ledger.add_site("home-01", (name,), world.now_ms)


async def test_script_in_what_a_gateway_says_is_shown_as_text(lenient: World, chromium_path: str) -> None:
    """A stolen gateway writes events; the operator's browser shows them and runs nothing of them."""
    world = lenient
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


async def test_script_in_what_people_write_is_shown_as_text(lenient: World) -> None:
    operator = await person(lenient, "ada", "operator")
    lenient.add_site("home-01", "fast")
    wanted = {"group": "fast", "power_kw": "1", "minutes": "5", "reason": EVIL, "confirmed": "yes"}
    assert (await operator.post("/dispatch/activate", data=wanted)).status_code == 303
    lenient.ledger.ask_approval("fast", 0.0, 1e6, EVIL, lenient.now_ms, EVIL)
    lenient.ledger.ask_change(Limits.SITE, "home-01", EVIL, EVIL, lenient.now_ms, EVIL)
    refused = await operator.post(
        "/dispatch/setpoint", data={"site": EVIL, "power_kw": "1", "minutes": "5", "reason": EVIL}
    )
    for page in ((await operator.get("/dispatch")).text, refused.text):
        assert "&lt;img src=x" in page
        assert "<img src=x" not in page
        assert "<script>" not in page


async def test_the_audit_page_shows_the_newest_first_and_escapes(lenient: World) -> None:
    admin = await person(lenient, "ada", "admin")
    lenient.ledger.audit("test.xss", actor="user:<script>", subject="<b>", at_ms=1, note="<img src=x>")
    page = (await admin.get("/audit")).text
    assert page.index("test.xss") < page.index("account.added")
    assert "<script>" not in page
    assert "<img src=x>" not in page
    assert "test.xss" not in (await admin.get("/audit", params={"action": "log-in"})).text
