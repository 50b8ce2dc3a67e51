"""First log-in, log-in, log-out, sessions, and what is refused."""

import datetime as dt
import sqlite3
from typing import Any

import httpx
import pytest

from cloud.api.access import ACCOUNT_FAILURES, ADDRESS_FAILURES, LOCKOUT_WINDOW_S, first_log_in_link
from cloud.api.testing import OPEN, PASSWORD, World, routes

LOG_IN = {"username": "ada", "password": PASSWORD}


async def test_every_page_and_call_needs_a_session(world: World, visitor: httpx.AsyncClient) -> None:
    guarded = [(method, path) for method, path in routes(world) if path not in OPEN and method != "HEAD"]
    assert {path for _, path in guarded} >= {"/", "/events", "/log-out", "/api/v1/sites", "/api/v1/openapi.json"}
    for method, path in guarded:
        answer = await visitor.request(method, path)
        if path.startswith("/api/") or path == "/events":
            assert (answer.status_code, answer.json()) == (
                401,
                {"detail": "no session: log in first, or send a token"},
            ), path
        else:
            assert (answer.status_code, answer.headers["location"]) == (303, "/log-in"), path


async def test_link_sets_name_and_password_and_works_once(
    world: World, visitor: httpx.AsyncClient, welcome: Any
) -> None:
    assert "First log-in" in (await visitor.get(welcome.path)).text
    assert (await visitor.post(welcome.path, data=welcome.form)).headers["location"] == "/"
    assert "ada" in (await visitor.get("/")).text
    visitor.cookies.clear()
    assert (await visitor.get(welcome.path)).status_code == 410
    assert (await visitor.post(welcome.path, data={**welcome.form, "username": "eve"})).status_code == 410
    assert world.ledger.user("eve") is None
    assert first_log_in_link(world.ledger, "http://console.test", world.now) is None


async def test_a_second_link_dies_with_the_first_log_in(world: World, visitor: httpx.AsyncClient, welcome: Any) -> None:
    other = first_log_in_link(world.ledger, "http://console.test", world.now)
    assert other is not None
    await visitor.post(welcome.path, data=welcome.form)
    assert (await visitor.post(other, data={**welcome.form, "username": "eve"})).status_code == 410


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"password": "short", "repeat": "short"}, "at least 12", id="short"),
        pytest.param({"repeat": PASSWORD + "!"}, "differ", id="repeated wrongly"),
        pytest.param({"username": "a b"}, "User name", id="name with a space"),
        pytest.param({"username": "ada", "password": "ada" * 4, "repeat": "ada" * 4}, "not the user name", id="name"),
    ],
)
async def test_a_refused_form_leaves_the_link_usable(
    visitor: httpx.AsyncClient, welcome: Any, change: dict[str, str], says: str
) -> None:
    refused = await visitor.post(welcome.path, data=welcome.form | change)
    assert refused.status_code == 422
    assert says in refused.text
    assert (await visitor.post(welcome.path, data=welcome.form)).status_code == 303


async def test_unknown_and_late_links_give_nothing(world: World, visitor: httpx.AsyncClient, welcome: Any) -> None:
    assert (await visitor.post("/welcome/guessed", data=welcome.form)).status_code == 410
    world.now += dt.timedelta(hours=24)
    answer = await visitor.post(welcome.path, data=welcome.form)
    assert answer.status_code == 410
    assert "out of time" in answer.text
    for late in ("/welcome/guessed", welcome.path):  # nor is anybody asked for a password in vain
        answer = await visitor.get(late)
        assert (answer.status_code, "unknown, used or out of time" in answer.text) == (410, True)


async def test_log_in_and_log_out(operator: httpx.AsyncClient) -> None:
    assert (await operator.post("/log-out")).headers["location"] == "/log-in"
    assert not operator.cookies
    assert (await operator.get("/api/v1/health")).status_code == 401
    assert (await operator.post("/log-in", data=LOG_IN)).headers["location"] == "/"
    assert (await operator.get("/api/v1/health")).status_code == 200


async def test_a_session_ends_after_a_shift(world: World, operator: httpx.AsyncClient) -> None:
    world.now += dt.timedelta(hours=11, minutes=59)
    assert (await operator.get("/api/v1/health")).status_code == 200
    world.now += dt.timedelta(minutes=1)
    assert (await operator.get("/api/v1/health")).status_code == 401


@pytest.mark.parametrize("username", ["ada", "nobody", "a\0da"])
async def test_wrong_password_and_unknown_user_read_the_same(
    world: World, operator: httpx.AsyncClient, username: str
) -> None:
    await operator.post("/log-out")
    answer = await operator.post("/log-in", data={"username": username, "password": "wrong"})
    assert answer.status_code == 401
    assert "User name, password and code do not match." in answer.text
    assert not operator.cookies
    [failed] = [entry for entry in world.ledger.audit_entries() if entry.action == "log-in.failed"]
    assert failed.subject == username.replace("\0", "")


async def test_an_invited_user_cannot_log_in_without_the_link(visitor: httpx.AsyncClient, welcome: Any) -> None:
    answer = await visitor.post("/log-in", data={"username": "operator", "password": ""})
    assert answer.status_code in {401, 422}
    assert not visitor.cookies
    assert "one-time link" in (await visitor.get("/log-in")).text


async def test_an_account_is_locked_after_failures_and_opens_again(world: World, operator: httpx.AsyncClient) -> None:
    await operator.post("/log-out")
    for _ in range(ACCOUNT_FAILURES):
        assert (await operator.post("/log-in", data=LOG_IN | {"password": "wrong"})).status_code == 401
    locked = await operator.post("/log-in", data=LOG_IN)
    assert locked.status_code == 429
    assert 0 < int(locked.headers["retry-after"]) <= LOCKOUT_WINDOW_S + 1
    world.monotonic_s += LOCKOUT_WINDOW_S
    assert (await operator.post("/log-in", data=LOG_IN)).status_code == 303


async def test_an_address_is_locked_whatever_names_it_tries(operator: httpx.AsyncClient) -> None:
    await operator.post("/log-out")
    for guess in range(ADDRESS_FAILURES):
        await operator.post("/log-in", data={"username": f"guess{guess}", "password": "wrong"})
    assert (await operator.post("/log-in", data=LOG_IN)).status_code == 429


async def test_the_ledger_keeps_no_secret(world: World, operator: httpx.AsyncClient, welcome: Any) -> None:
    (cookie,) = operator.cookies.values()
    with sqlite3.connect(world.ledger.name) as file:
        everything = "\n".join(file.iterdump())
    assert "ada" in everything
    for secret in (PASSWORD, cookie, welcome.path.rsplit("/", 1)[1]):
        assert secret not in everything


@pytest.mark.parametrize("path", ["/", "/log-in", "/static/console.css", "/static/none", "/api/v1/health", "/nowhere"])
async def test_every_answer_carries_the_policy(visitor: httpx.AsyncClient, path: str) -> None:
    headers = (await visitor.get(path)).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")


async def test_pages_hold_no_inline_script_or_style(operator: httpx.AsyncClient) -> None:
    for path in ("/", "/log-in"):
        page = (await operator.get(path, follow_redirects=True)).text
        assert "<style" not in page
        assert " style=" not in page
        assert all("src=" in tag for tag in page.split("<script")[1:])
        assert "http://" not in page
        assert "https://" not in page


async def test_missing_assets_are_said_plainly(
    operator: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    monkeypatch.setattr("cloud.console.assets.missing", lambda: ["uplot/dist/uPlot.esm.js"])
    for _ in range(2):
        page = await operator.get("/")
        assert page.status_code == 503
        assert "console assets are missing: run `make setup`" in page.text
    assert caplog.text.count("console assets are missing") == 1


async def test_log_ins_failures_and_log_outs_are_in_the_audit_log(world: World, operator: httpx.AsyncClient) -> None:
    await operator.post("/log-out")
    await operator.post("/log-in", data=LOG_IN | {"password": "wrong"})
    await operator.post("/log-in", data=LOG_IN)
    told = [(entry.action, entry.actor, entry.subject) for entry in world.ledger.audit_entries()]
    assert told[-4:] == [
        ("log-in", "user:ada", "ada"),
        ("log-out", "user:ada", "ada"),
        ("log-in.failed", "address:192.0.2.7", "ada"),
        ("log-in", "user:ada", "ada"),
    ]


async def test_a_locked_out_flood_does_not_fill_the_audit_log(world: World, operator: httpx.AsyncClient) -> None:
    await operator.post("/log-out")
    for _ in range(2 * ACCOUNT_FAILURES):
        await operator.post("/log-in", data=LOG_IN | {"password": "wrong"})
    failures = [entry for entry in world.ledger.audit_entries() if entry.action == "log-in.failed"]
    assert len(failures) == ACCOUNT_FAILURES
    assert '"locked":true' in failures[-1].detail
