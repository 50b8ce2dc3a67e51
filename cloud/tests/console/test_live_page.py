"""The console in a real browser, served for real, with values that change while it looks."""

import datetime as dt
import re

from playwright.async_api import Browser, expect

from cloud.api.testing import World, served
from cloud.model.records import EventRecord, IntentState, Severity
from cloud.tests.console.watching import log_in, watched_page


def pass_second(world: World, slot: int, frequency_hz: float, power_w: float, soc: float = 0.5) -> None:
    """A second goes by, of which the site reports."""
    t0_ms = world.now_ms
    world.now += dt.timedelta(seconds=1)
    world.measure(
        slot,
        t0_ms,
        frequency_hz=frequency_hz,
        inverter_power_w=power_w,
        grid_power_w=power_w - 600.0,
        pv_power_w=0.0,
        soc=soc,
    )


def event(world: World, event_id: str, severity: Severity, text: str) -> None:
    world.ledger.add_event(
        EventRecord(
            site="home-01",
            event_id=event_id,
            at_ms=world.now_ms,
            severity=severity,
            code="service.triggered",
            text=text,
        )
    )


async def test_an_operator_watches_a_disturbance(browser: Browser, world: World) -> None:
    world.add_site("home-01", "fast")
    world.add_site("home-02", "droop")
    world.schedule("home-01", 1_000)
    world.arm("home-01", "ercot-ffr", 3_000)
    world.arm("home-02", "ieee1547-droop", 900, IntentState.REFUSED)
    event(world, "1", Severity.INFO, "Service ercot-ffr accepted")
    async with served(world) as address, watched_page(browser, address) as page:
        await page.set_viewport_size({"width": 1440, "height": 900})  # room for all columns
        await log_in(page, world, address)
        table = page.get_by_role("grid", name="Sites")
        first = table.get_by_role("row").filter(has_text="home-01")
        second = table.get_by_role("row").filter(has_text="home-02")
        await expect(second).to_contain_text("refused")
        await expect(second).to_contain_text("never")
        await expect(first).to_contain_text("armed")
        await expect(page.locator("#frequency")).to_have_text("—")

        pass_second(world, 0, 60.002, 1_000, soc=0.8312)
        await expect(page.locator("#frequency")).to_have_text("60.002")
        await expect(page.locator("#deviation")).to_have_text("+2")
        await expect(page.locator("#power")).to_have_text("+1.00")
        await expect(page.locator("#target")).to_have_text("+1.00")
        await expect(page.locator("#online")).to_have_text("1 of 2")
        await expect(page.locator("#broker")).to_have_text("connected")
        await expect(page.locator("#armed")).to_have_text("ercot-ffr 3.0 kW at 1 site")
        await expect(first.get_by_role("gridcell").nth(2)).to_have_text("83.1")
        await expect(first.get_by_role("gridcell").nth(4)).to_have_text("+0.40")

        pass_second(world, 0, 59.840, 3_900)
        event(world, "2", Severity.ALARM, "Triggered at 59.840 Hz")
        world.broker = False
        await expect(page.locator("#frequency")).to_have_text("59.840")
        await expect(page.locator("#deviation")).to_have_text("−160")
        await expect(page.locator("#power")).to_have_text("+3.90")
        await expect(page.locator("#target")).to_have_text("+4.00")
        await expect(page.locator("#off-target")).to_have_text("−0.10")
        await expect(page.locator("#broker")).to_have_text("lost")
        await expect(first).to_contain_text("active")
        await expect(first.get_by_role("gridcell").nth(3)).to_have_text("+3.90")
        events = page.get_by_role("log").get_by_role("listitem")
        await expect(events).to_have_count(2)
        await expect(events.first).to_contain_text("Triggered at 59.840 Hz")
        await page.get_by_label("Warnings and alarms only").check()
        await expect(page.get_by_text("Service ercot-ffr accepted")).to_be_hidden()
        for chart in ("frequency", "power"):
            await expect(page.locator(f"#{chart}-chart canvas")).to_be_visible()

        await page.get_by_role("button", name="Log out").click()
        await expect(page).to_have_title("Log in · Murmuration")
        await page.go_back()
        await expect(page).to_have_title("Log in · Murmuration")


async def test_thousands_of_sites_scroll_sort_and_filter(browser: Browser, world: World) -> None:
    with world.ledger.transaction():
        for number in range(3_000):
            world.add_site(f"home-{number:04d}", "east" if number % 2 else "west")
    pass_second(world, 1_234, 60.0, -4_321.0)
    pass_second(world, 7, 60.0, 2_000.0)
    async with served(world) as address, watched_page(browser, address) as page:
        await log_in(page, world, address)
        table = page.get_by_role("grid", name="Sites")
        sites = table.locator(".row:not(.head) .site")
        await expect(table).to_have_attribute("aria-rowcount", "3001")
        await expect(sites.first).to_have_text("home-0000")
        assert await sites.count() < 100  # only what is in view

        await table.focus()
        await page.keyboard.press("End")
        last = table.get_by_role("row").filter(has_text="home-2999")
        await expect(last).to_be_in_viewport()
        await expect(last).to_have_attribute("aria-rowindex", "3001")
        await expect(last).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("Home")

        inverter = table.get_by_role("columnheader", name=re.compile("Inverter"))
        await inverter.get_by_role("button").click()
        await expect(inverter).to_have_attribute("aria-sort", "descending")
        top = table.locator('[role="row"][aria-rowindex="2"]')
        await expect(top).to_contain_text("home-0007")
        await expect(top).to_contain_text("+2.00")
        await inverter.get_by_role("button").click()
        await expect(top).to_contain_text("home-1234")
        await expect(top).to_contain_text("−4.32")

        await page.get_by_label("Filter sites by text").fill("home-00 live")
        await expect(table).to_have_attribute("aria-rowcount", "2")
        await expect(page.locator("#sites-count")).to_have_text("1 of 3000")
        await page.get_by_label("Filter sites by text").fill("")
        await page.get_by_label("Group", exact=True).select_option("east")
        await expect(page.locator("#sites-count")).to_have_text("1500 of 3000")


async def test_a_coordinator_that_stops_is_said_so(browser: Browser, world: World) -> None:
    world.add_site("home-01")
    async with served(world) as address:
        context = await browser.new_context()
        page = await context.new_page()
        await log_in(page, world, address)
        await expect(page.locator("#online")).to_have_text("0 of 1")
        await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(page.get_by_role("alert")).to_contain_text("the values below are old")
    await context.close()


async def test_no_width_makes_the_page_scroll_sideways(browser: Browser, world: World) -> None:
    world.add_site("home-with-quite-a-long-name-01", "fast")
    world.arm("home-with-quite-a-long-name-01", "ercot-ffr", 3_000)
    async with served(world) as address, watched_page(browser, address) as page:
        await log_in(page, world, address)
        await expect(page.locator("#armed")).to_contain_text("ercot-ffr")
        for width in (390, 640, 820, 1024, 1120, 1280, 1366, 1440):
            await page.set_viewport_size({"width": width, "height": 900})
            await expect(page.get_by_role("grid")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") == width
            # Nor is a column cut off: whether a site can be reached is among them at every width.
            headers = page.get_by_role("columnheader")
            grid = await page.get_by_role("grid").bounding_box()
            last = await headers.filter(visible=True).last.bounding_box()
            assert grid is not None
            assert last is not None
            assert last["x"] + last["width"] <= grid["x"] + grid["width"], width
            await expect(headers.filter(has_text="Link")).to_be_visible()
