"""The page Dispatch in a real browser: what others do shows by itself, and an envelope is asked for and shown."""

from pathlib import Path

from playwright.async_api import Browser, expect

from cloud.api.testing import World, served
from cloud.dispatch import asking
from cloud.tests.console.watching import log_in, watched_page


def world_of(folder: Path) -> World:
    world = World(folder / "dispatch", allow_password_only=True)
    for name in ("home-0", "home-1"):
        world.add_site(name, "north")
    return world


async def test_what_others_ask_shows_by_itself_and_nothing_is_asked_for_meanwhile(
    browser: Browser, tmp_path: Path
) -> None:
    world = world_of(tmp_path)
    async with served(world) as address, watched_page(browser, address) as page:
        await log_in(page, world, address)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/dispatch") else None)
        await page.goto(f"{address}/dispatch")
        await expect(page.locator("#orders")).to_contain_text("No site was asked by name yet")
        await page.get_by_label("Group", exact=True).last.fill("nor")  # what somebody types stays
        asking.give(
            world.ledger,
            asking.setpoints(
                ["home-1"], power_w=2500, minutes=5, reason="by bob", actor="user:bob", now_ms=world.now_ms
            ),
        )
        await expect(page.locator("#orders")).to_contain_text("+2.5 kW: by bob")
        number = world.ledger.ask_approval("north", 0.0, 12e6, "a step", world.now_ms, "user:bob").number
        grant = page.get_by_role("button", name=f"Approve {number}")
        await expect(grant).to_be_visible()
        await grant.focus()
        world.ledger.add_activation(
            asking.activation(
                group="north", power_w=1000, minutes=5, reason="carol's", actor="user:carol", now_ms=world.now_ms
            )
        )
        await expect(page.locator("#activations")).to_contain_text("user:carol: carol's")
        await expect(grant).to_be_focused()
        await expect(page.get_by_label("Group", exact=True).last).to_have_value("nor")
        assert len(asked) <= 2 + 2 * 3, "the page, the stream's first word, and no more than two for each change"
        await grant.click()
        await expect(page.locator("#approvals")).to_contain_text("granted by user:ada")
    world.ledger.close()


async def test_an_envelope_is_reviewed_given_and_shown(browser: Browser, tmp_path: Path) -> None:
    world = world_of(tmp_path)
    async with served(world) as address, watched_page(browser, address) as page:
        await log_in(page, world, address)
        await page.goto(f"{address}/dispatch")
        form = page.get_by_role("form", name="Envelope")
        await form.get_by_label("Each site of").check()
        await form.get_by_label("Group of the envelope").fill("north")
        await form.get_by_label("Import [kW]").fill("4")
        await form.get_by_label("Export [kW]").fill("1.5")
        await form.get_by_role("button", name="Review…").click()
        await expect(page.locator("main")).to_contain_text(
            "2 sites of group north may each import up to 4.0 kW and export up to 1.5 kW at the grid meter."
        )
        assert world.ledger.orders() == []
        await page.get_by_role("button", name="Set an envelope").click()
        await expect(page.locator("#orders")).to_contain_text("import up to 4.0 kW, export up to 1.5 kW")
        assert {(order.site, order.kind, order.actor) for order in world.ledger.orders()} == {
            ("home-0", "envelope", "user:ada"),
            ("home-1", "envelope", "user:ada"),
        }
    world.ledger.close()
