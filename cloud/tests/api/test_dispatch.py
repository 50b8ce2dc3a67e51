"""The page Dispatch and its calls: asked through the ledger confirmed, stopped, approved by another."""

import re
from collections.abc import AsyncIterator, Sequence
from html import unescape
from pathlib import Path

import httpx
import pytest

from cloud.api.testing import World, person
from cloud.gateway.intents import body_text
from cloud.gateway.stopping import Told
from cloud.model.approval import GRANT_MS, Limits
from cloud.model.records import IntentState
from protos.vpp.v1 import intent_pb2

ACTIVATION = {"group": "north", "power_kw": "-7.5", "minutes": "15", "reason": "test run"}
SETPOINT = {"site": "home-1", "power_kw": "3", "minutes": "10", "reason": "test run"}
ENVELOPE = {"scope": "site", "site": "home-1", "import_kw": "0", "export_kw": "0", "minutes": "10"}
CONFIRMED = {"confirmed": "yes"}


class Stops:
    """Plays the broker: keeps what was ordered in the ledger, as the sender does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[tuple[bool, list[str], list[str], str]] = []

    async def __call__(
        self, *, stop: bool, reason: str, sites: Sequence[str], groups: Sequence[str], actor: str
    ) -> Told:
        self.told.append((stop, list(sites), list(groups), actor))
        for site in sites:
            self.world.ledger.record_intent(
                site,
                "stop",
                valid_from_ms=self.world.now_ms,
                expires_ms=self.world.now_ms + 10**9,
                body=body_text(intent_pb2.StopOrder(stop=stop, reason=reason)),
                now_ms=self.world.now_ms,
                actor=actor,
            )
        return Told(sites=list(sites), groups=list(groups))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "lenient", allow_password_only=True)
    for number in range(3):
        world.add_site(f"home-{number}", "north" if number < 2 else "south")
    world.ledger._execute("UPDATE sites SET enrolled_ms = ?", (world.now_ms,))
    return world


@pytest.fixture
async def ada(world: World) -> AsyncIterator[httpx.AsyncClient]:
    client = await person(world, "ada", "operator")
    yield client
    await client.aclose()


@pytest.fixture
async def program(world: World) -> AsyncIterator[httpx.AsyncClient]:
    token = world.app.state.accounts.add_token("desk", ["view", "dispatch", "stop"], 30, "user:ada")
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app=world.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://console.test", headers=headers) as client:
        yield client


def text(answer: httpx.Response) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def fields(answer: httpx.Response) -> dict[str, str]:
    """What the confirmation's button sends."""
    found = re.findall(r'name="(\w+)" value="([^"]*)"', answer.text)
    return {name: unescape(value) for name, value in found}


async def test_an_empty_page_says_what_to_do(world: World, ada: httpx.AsyncClient) -> None:
    page = text(await ada.get("/dispatch"))
    for says in ("Nothing waits", "No group was activated yet", "No site was asked by name yet", "No site is stopped"):
        assert says in page


async def test_a_viewer_sees_and_has_no_forms(world: World) -> None:
    vera = await person(world, "vera", "viewer")
    page = (await vera.get("/dispatch")).text
    assert 'action="/dispatch' not in page


async def test_an_activation_is_shown_before_it_is_asked(world: World, ada: httpx.AsyncClient) -> None:
    shown = await ada.post("/dispatch/activate", data=ACTIVATION)
    assert "2 sites of group north are told to hold -7.5 kW together, taken from the grid" in text(shown)
    assert "rated 10.0 kW together" in text(shown)
    assert world.ledger.activations() == []
    answer = await ada.post("/dispatch/activate", data=fields(shown))
    assert (answer.status_code, answer.headers["location"]) == (303, "/dispatch")
    (asked,) = world.ledger.activations()
    assert (asked.group, asked.target_w, asked.actor) == ("north", -7500, "user:ada")
    assert (asked.end_ms - asked.start_ms, asked.reason) == (15 * 60_000, "test run")
    again = await ada.post("/dispatch/activate", data=ACTIVATION)
    assert (again.status_code, f"{asked.activation_id} is in its way" in text(again)) == (422, True)
    await ada.post("/dispatch/end", data={"activation": asked.activation_id})
    acts = [(entry.action, entry.actor) for entry in world.ledger.audit_entries()]
    assert acts[-2:] == [("activation.asked", "user:ada"), ("activation.ended", "user:ada")]


@pytest.mark.parametrize(
    ("path", "form", "says"),
    [
        ("activate", ACTIVATION | {"group": "west"}, "group 'west' has no site"),
        ("activate", ACTIVATION | {"reason": " "}, "the reason is empty"),
        ("activate", ACTIVATION | {"minutes": "0"}, "The form was not complete"),
        ("activate", ACTIVATION | {"power_kw": "nan"}, "The form was not complete"),
        ("setpoint", SETPOINT | {"site": "home-9"}, "site 'home-9' is unknown"),
        ("setpoint", SETPOINT | {"site": "home-9"} | CONFIRMED, "site 'home-9' is unknown"),
        ("end", {"activation": "act-0"}, "activation 'act-0' is unknown"),
        ("envelope", ENVELOPE | {"scope": "all"}, "envelope: whom?"),
        ("envelope", ENVELOPE | {"site": "home-9"}, "site 'home-9' is unknown"),
        ("envelope", ENVELOPE | {"scope": "group", "group": "west"}, "group 'west' is unknown"),
        ("envelope", ENVELOPE | {"export_kw": "-1"}, "The form was not complete"),
        ("stop", {"scope": "site", "site": "", "reason": "fire"}, "stop: whom?"),
        ("stop", {"scope": "group", "group": "west", "reason": "fire"}, "group 'west' has no site"),
        ("stop", {"scope": "all", "reason": " "}, "the reason is empty"),
        ("approvals/answer", {"number": "7", "verdict": "grant"}, "approval 7: there is none"),
        ("approvals/answer", {"number": "7", "verdict": "perhaps"}, "grant or deny"),
    ],
)
async def test_what_will_not_do_is_refused_with_why(
    world: World, ada: httpx.AsyncClient, path: str, form: dict[str, str], says: str
) -> None:
    world.send_stop = stops = Stops(world)
    answer = await ada.post(f"/dispatch/{path}", data=form)
    assert (answer.status_code, says in text(answer)) == (422, True)
    assert (world.ledger.activations(), world.ledger.orders(), stops.told) == ([], [], [])


async def test_a_setpoint_warns_and_its_state_comes_back(world: World, ada: httpx.AsyncClient) -> None:
    world.send_stop = Stops(world)
    await ada.post("/dispatch/stop", data={"scope": "site", "site": "home-1", "reason": "fire"})
    shown = await ada.post("/dispatch/setpoint", data=SETPOINT | {"power_kw": "9"})
    assert "1 site, home-1, is told to hold +9.0 kW" in text(shown)
    assert "more than the inverter is rated for" in text(shown)
    assert "under an emergency stop" in text(shown)
    assert (await ada.post("/dispatch/setpoint", data=fields(shown))).status_code == 303
    (order,) = world.ledger.orders()
    assert (order.site, order.actor, order.expires_ms - order.valid_from_ms) == ("home-1", "user:ada", 600_000)
    assert "+9.0 kW: test run waiting" in text(await ada.get("/dispatch"))
    sent = world.ledger.record_intent(
        "home-1", "setpoint", valid_from_ms=order.valid_from_ms, expires_ms=order.expires_ms, body=order.body,
        now_ms=world.now_ms,
    )  # fmt: skip
    world.ledger.set_order(order.order_id, sequence=sent.sequence)
    world.ledger.update_intent_state("home-1", "setpoint", 1, IntentState.REFUSED, "stopped <here>", world.now_ms)
    assert "+9.0 kW: test run refused: stopped <here>" in text(await ada.get("/dispatch"))


async def test_stopping_takes_one_step_and_lifting_two(world: World, ada: httpx.AsyncClient) -> None:
    world.send_stop = stops = Stops(world)
    # What stands in a field that was not chosen does not count.
    form = {"scope": "group", "group": "north", "site": "home-2", "reason": "fire"}
    answer = await ada.post("/dispatch/stop", data=form)
    assert "Stopped: 2 sites by an order that the broker keeps, 1 group by broadcast" in text(answer)
    assert "2 sites under a stop" in text(answer)
    shown = await ada.post("/dispatch/stop/lift", data={"scope": "all", "reason": "no fire"})
    assert "3 sites are told that the stop is lifted; 2 of them are stopped from here: home-0, home-1" in text(shown)
    assert len(stops.told) == 1
    assert "No site is stopped" in text(await ada.post("/dispatch/stop/lift", data=fields(shown)))
    assert stops.told == [
        (True, ["home-0", "home-1"], ["north"], "user:ada"),
        (False, ["home-0", "home-1", "home-2"], ["north", "south"], "user:ada"),
    ]


async def test_a_stop_that_did_not_go_out_says_so(
    world: World, ada: httpx.AsyncClient, program: httpx.AsyncClient
) -> None:
    answer = await ada.post("/dispatch/stop", data={"scope": "site", "site": "home-0", "reason": "fire"})
    assert (answer.status_code, "NOT stopped: site home-0" in text(answer)) == (503, True)
    assert "Stopped: " not in text(answer)
    call = await program.post("/api/v1/stop", json={"sites": ["home-0"], "reason": "fire"})
    assert (call.status_code, call.json()["sites"], len(call.json()["failures"])) == (503, [], 1)


async def test_an_envelope_says_what_it_takes_and_a_groups_is_a_limit(world: World, ada: httpx.AsyncClient) -> None:
    shown = await ada.post("/dispatch/envelope", data=ENVELOPE)
    assert "1 site, home-1, may import up to 0.0 kW and export up to 0.0 kW at its grid meter" in text(shown)
    assert "Nothing may be exchanged" in text(shown)
    assert (await ada.post("/dispatch/envelope", data=fields(shown))).status_code == 303
    (order,) = world.ledger.orders()
    assert (order.site, order.kind, order.expires_ms - order.valid_from_ms) == ("home-1", "envelope", 600_000)
    together = ENVELOPE | {"scope": "group", "group": "north", "import_kw": "5", "export_kw": "2.5"}
    assert (await ada.post("/dispatch/envelope", data=together | CONFIRMED)).status_code == 303
    limit = world.ledger.group_limits(world.now_ms)["north"]
    assert (limit.import_limit_w, limit.export_limit_w, limit.actor) == (5000, 2500, "user:ada")
    assert "import up to 5.0 kW, export up to 2.5 kW" in text(await ada.get("/dispatch"))
    vera = await person(world, "vera", "viewer")
    assert (await vera.post("/dispatch/envelope", data=ENVELOPE | CONFIRMED)).status_code == 403
    assert "Envelope" not in (await vera.get("/dispatch")).text


async def test_who_asked_cannot_grant_and_somebody_else_can(world: World, ada: httpx.AsyncClient) -> None:
    for _ in range(2):
        world.ledger.ask_approval("north", 0.0, 12e6, "step of 12.0 MW", world.now_ms, "user:ada")
    page = await ada.get("/dispatch")
    assert "area north: from 0.0 kW to +12,000 kW" in text(page)
    assert "you asked: somebody else grants it" in text(page)
    answer = await ada.post("/dispatch/approvals/answer", data={"number": "1", "verdict": "grant"})
    assert (answer.status_code, "user:ada asked for it, and cannot grant it" in text(answer)) == (422, True)
    assert (await ada.post("/dispatch/approvals/answer", data={"number": "2", "verdict": "deny"})).status_code == 303
    bob = await person(world, "bob", "market")
    assert 'value="grant"' in (await bob.get("/dispatch")).text
    answer = await bob.post("/dispatch/approvals/answer", data={"number": "1", "verdict": "grant"})
    assert answer.status_code == 303
    told = {each.number: (each.granted_by, each.denied_by) for each in world.ledger.approvals()}
    assert told == {1: ("user:bob", None), 2: (None, "user:ada")}


async def test_a_change_of_limits_is_shown_and_set_by_somebody_else(world: World, ada: httpx.AsyncClient) -> None:
    toml, days_ms = "[control]\nexport_limit_w = 3000\n", 2 * 24 * 3_600_000  # it waits a week
    world.ledger.ask_change(Limits.SITE, "home-1", toml, "limits of home-1", world.now_ms - days_ms, "user:ada")
    bob = await person(world, "bob", "operator")
    page = await ada.get("/dispatch")
    assert "limits of home-1 from afar: [control] export_limit_w = 3000" in text(page)
    assert "you asked: somebody else grants it" in text(page)
    assert (await ada.get("/api/v1/dispatch")).json()["approvals"][0]["limits"] == "site"
    grant = {"number": "1", "verdict": "grant"}
    assert (await ada.post("/dispatch/approvals/answer", data=grant)).status_code == 422
    assert (await bob.post("/dispatch/approvals/answer", data=grant)).status_code == 303
    site = world.ledger.site("home-1")
    assert site is not None
    assert site.remote_toml == toml


async def test_an_approval_runs_out(world: World, ada: httpx.AsyncClient) -> None:
    world.ledger.ask_approval("north", 0.0, 12e6, "step of 12.0 MW", world.now_ms - GRANT_MS, "user:bob")
    assert "ran out" in text(await ada.get("/dispatch"))
    answer = await ada.post("/dispatch/approvals/answer", data={"number": "1", "verdict": "grant"})
    assert (answer.status_code, "ran out" in text(answer)) == (422, True)


async def test_programs_ask_the_same(world: World, program: httpx.AsyncClient) -> None:
    world.send_stop = stops = Stops(world)
    wanted = {"group": "north", "power_w": 7500, "minutes": 15, "in_minutes": 5, "source": "grid", "reason": "drill"}
    made = await program.post("/api/v1/activations", json=wanted)
    assert made.status_code == 201
    assert made.json()["start_ms"] == world.now_ms + 300_000
    again = await program.post("/api/v1/activations", json=wanted)
    assert (again.status_code, "is in its way" in again.json()["detail"]) == (422, True)
    given = {"sites": ["home-0", "home-2"], "power_w": -100, "minutes": 1, "reason": "drill"}
    assert len((await program.post("/api/v1/setpoints", json=given)).json()) == 2
    unknown = given | {"sites": ["home-0", "home-9"]}
    assert (await program.post("/api/v1/setpoints", json=unknown)).status_code == 422
    stop = await program.post("/api/v1/stop", json={"all": True, "reason": "drill"})
    assert (stop.status_code, len(stop.json()["sites"])) == (200, 3)
    both = await program.post("/api/v1/stop", json={"all": True, "sites": ["home-0"], "reason": "drill"})
    assert both.status_code == 422
    state = (await program.get("/api/v1/dispatch")).json()
    assert [each["actor"] for each in state["activations"]] == ["token:desk"]
    assert {(each["site"], each["state"], each["by"]) for each in state["orders"]} == {
        ("home-0", "waiting", "token:desk"),
        ("home-2", "waiting", "token:desk"),
    }
    assert len(stops.told) == 1
    end = await program.post(f"/api/v1/activations/{made.json()['activation_id']}/end")
    assert end.status_code == 204


@pytest.mark.parametrize("call", ["activations", "setpoints", "stop", "activations/act-0/end"])
async def test_a_token_that_may_look_asks_nothing(world: World, program: httpx.AsyncClient, call: str) -> None:
    token = world.app.state.accounts.add_token("grafana", ["view"], 30, "user:ada")
    program.headers["Authorization"] = f"Bearer {token}"
    assert (await program.get("/api/v1/dispatch")).status_code == 200
    assert (await program.post(f"/api/v1/{call}", json={})).status_code == 403
