"""A browser that looks at the console and must not complain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, expect

from cloud.api.access import first_log_in_link
from cloud.api.testing import PASSWORD, World


@asynccontextmanager
async def watched_page(browser: Browser, address: str) -> AsyncIterator[Page]:
    """A page in a fresh profile that must not complain, and must not ask any other server for anything."""
    problems: list[str] = []
    context = await browser.new_context()
    page = await context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"{request.url}: {request.failure}"))
    page.on("request", lambda request: problems.append(request.url) if not request.url.startswith(address) else None)
    yield page
    await context.close()
    # What leaving a page cuts off, its stream or a font still on its way, is no failure.
    assert [problem for problem in problems if not problem.endswith("net::ERR_ABORTED")] == []


async def log_in(page: Page, world: World, address: str) -> None:
    link = first_log_in_link(world.ledger, address, world.now)
    assert link is not None
    await page.goto(link)
    await page.get_by_label("User name").fill("ada")
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_label("Password again").fill(PASSWORD)
    await page.get_by_role("button", name="Set password and log in").click()
    await expect(page).to_have_title("Live · Murmuration")
