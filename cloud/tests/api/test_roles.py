"""Every page and call checks the permission on the server; roles, second factors and tokens decide who has it."""

import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from cloud.api.access import ADDRESS_FAILURES
from cloud.api.testing import PASSWORD, World
from cloud.model.access import ROLES, TOKEN_PERMISSIONS, Permission
from cloud.tests.api.test_access import OPEN, routes

ANYBODY = {"/", "/events", "/log-out", "/api/v1/openapi.json"}
NEEDS = {
    "/api/v1/activations": Permission.DISPATCH,
    "/api/v1/setpoints": Permission.DISPATCH,
    "/api/v1/stop": Permission.STOP,
    "/dispatch/stop": Permission.STOP,
    "/dispatch/approvals": Permission.APPROVE,
    "/dispatch/": Permission.DISPATCH,
    "/dispatch": Permission.VIEW,
    "/api/": Permission.VIEW,
    "/account": Permission.VIEW,
    "/people": Permission.PEOPLE,
    "/audit": Permission.AUDIT,
}


def needed(path: str) -> Permission:
    """What a route needs, by the table above: a new route must be entered here."""
    if path in ANYBODY:
        return Permission.VIEW
    return next(permission for prefix, permission in NEEDS.items() if path.startswith(prefix))


@pytest.fixture
def lenient(tmp_path: Path) -> World:
    """A console that lets roles be in force without a second factor."""
    return World(tmp_path / "lenient", allow_password_only=True)


async def person(world: World, username: str, *roles: str) -> httpx.AsyncClient:
    """A browser that is logged in as a new user of these roles."""
    token = world.app.state.accounts.invite(username, roles, "test")
    transport = httpx.ASGITransport(app=world.app, client=("192.0.2.9", 40_000))
    client = httpx.AsyncClient(transport=transport, base_url="http://console.test")
    answer = await client.post(f"/welcome/{token}", data={"password": PASSWORD, "repeat": PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


@pytest.fixture
async def program(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=world.app, client=("192.0.2.8", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
        yield client


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_may_what_its_permissions_say_and_nothing_else(lenient: World, role: str) -> None:
    client = await person(lenient, "ada", role)
    for method, path in routes(lenient):
        if path in OPEN or method == "HEAD" or path in {"/log-out", "/events"}:
            continue
        answer = await client.request(method, path)
        allowed = needed(path) in ROLES[role]
        assert (answer.status_code == 403) is not allowed, (method, path, answer.status_code)
        if not allowed:
            assert f"needs the permission {needed(path).value!r}" in answer.text.replace("&#39;", "'")


async def test_a_refusal_is_in_the_audit_log_once_a_minute(lenient: World) -> None:
    client = await person(lenient, "vera", "viewer")
    for _ in range(3):
        await client.post("/people/disable", data={"username": "vera"})
    lenient.monotonic_s += 60.0
    await client.get("/people")
    found = [entry for entry in lenient.ledger.audit_entries() if entry.action == "access.refused"]
    assert [(entry.actor, entry.subject) for entry in found] == [
        ("user:vera", "POST /people/disable"),
        ("user:vera", "GET /people"),
    ]


async def test_a_change_of_roles_takes_effect_with_the_next_request(lenient: World) -> None:
    admin, other = await person(lenient, "ada", "admin"), await person(lenient, "eve", "admin")
    assert (await other.get("/people")).status_code == 200
    answer = await admin.post("/people/roles", data={"username": "eve", "role": ["viewer", "market"]})
    assert answer.status_code == 303
    assert (await other.get("/people")).status_code == 403
    assert lenient.ledger.user("eve").roles == ("market", "viewer")  # type: ignore[union-attr]


async def test_the_last_administrator_stays(lenient: World) -> None:
    admin = await person(lenient, "ada", "admin")
    for path, form in (("/people/disable", {}), ("/people/roles", {"role": "viewer"})):
        answer = await admin.post(path, data={"username": "ada", **form})
        assert (answer.status_code, "last administrator" in answer.text) == (422, True)


async def test_disabling_ends_sessions_links_and_log_ins(lenient: World) -> None:
    admin, other = await person(lenient, "ada", "admin"), await person(lenient, "eve", "viewer")
    link = lenient.app.state.accounts.new_link("eve", "test")
    await admin.post("/people/disable", data={"username": "eve"})
    assert (await other.get("/api/v1/health")).status_code == 401
    assert (await other.get(f"/welcome/{link}")).status_code == 410
    assert (await other.post("/log-in", data={"username": "eve", "password": PASSWORD})).status_code == 401
    await admin.post("/people/enable", data={"username": "eve"})
    assert (await other.post("/log-in", data={"username": "eve", "password": PASSWORD})).status_code == 303


@pytest.mark.parametrize(
    ("form", "says"),
    [
        pytest.param({"username": "ada", "role": "viewer"}, "exists already", id="taken"),
        pytest.param({"username": "a b", "role": "viewer"}, "User name: 1 to 64", id="no name"),
        pytest.param({"username": "eve", "role": "god"}, "role &#39;god&#39; is unknown", id="unknown role"),
    ],
)
async def test_an_invitation_that_will_not_do(lenient: World, form: dict[str, str], says: str) -> None:
    admin = await person(lenient, "ada", "admin")
    answer = await admin.post("/people/invite", data=form)
    assert (answer.status_code, says in answer.text) == (422, True)


async def test_an_invitation_is_a_link_for_that_user_alone(lenient: World) -> None:
    admin = await person(lenient, "ada", "admin")
    page = (await admin.post("/people/invite", data={"username": "eve", "role": "operator"})).text
    path = re.search(r"http://console\.test(/welcome/[\w-]+)", page)
    assert path is not None
    admin.cookies.clear()
    form = {"username": "ada", "password": PASSWORD, "repeat": PASSWORD}
    assert (await admin.post(path[1], data=form)).status_code == 303
    assert "eve" in (await admin.get("/account")).text  # whatever name the form says
    assert (await admin.post(path[1], data=form)).status_code == 410


def code_of(page: str, world: World) -> str:
    """The code that an app shows which was given the key on the page."""
    key = re.search(r'id="totp-key">([A-Z2-7 ]+)<', page)
    assert key is not None
    return (
        TOTP(base64.b32decode(key[1].replace(" ", "")), 6, SHA1(), 30).generate(round(world.now.timestamp())).decode()
    )


async def test_without_a_second_factor_a_role_allows_to_look(world: World, operator: httpx.AsyncClient) -> None:
    assert "You can look, and nothing more" in (await operator.get("/")).text
    answer = await operator.get("/people")
    assert (answer.status_code, "set up a second factor" in answer.text) == (403, True)
    assert (await operator.get("/api/v1/sites")).status_code == 200
    code = code_of((await operator.post("/account/second-factor")).text, world)
    assert (await operator.post("/account/second-factor/confirm", data={"code": code})).status_code == 303
    assert (await operator.get("/people")).status_code == 200


async def test_the_second_factor_is_asked_for_and_each_code_is_good_once(
    world: World, operator: httpx.AsyncClient
) -> None:
    form = {"username": "ada", "password": PASSWORD}
    code = code_of((await operator.post("/account/second-factor")).text, world)
    assert (await operator.post("/log-in", data=form)).status_code == 303  # not in force before a first code
    wrong = await operator.post("/account/second-factor/confirm", data={"code": "000000" if code != "000000" else "1"})
    assert (wrong.status_code, "does not match" in wrong.text) == (422, True)
    page = (await operator.post("/account/second-factor")).text
    code = code_of(page, world)
    await operator.post("/account/second-factor/confirm", data={"code": code})
    assert (await operator.post("/account/second-factor")).status_code == 409
    for refused in ({}, {"code": code}, {"code": "123"}):  # none, the one that was used, none at all
        answer = await operator.post("/log-in", data=form | refused)
        assert (answer.status_code, "do not match" in answer.text) == (401, True)
    world.now = world.now.replace(year=world.now.year + 1)
    assert (await operator.post("/log-in", data=form | {"code": code_of(page, world)})).status_code == 303
    user = world.ledger.user("ada")
    assert user is not None
    assert user.totp_secret is not None
    assert user.totp_secret not in page


async def test_a_lost_app_is_an_administrators_matter(world: World, operator: httpx.AsyncClient) -> None:
    code = code_of((await operator.post("/account/second-factor")).text, world)
    await operator.post("/account/second-factor/confirm", data={"code": code})
    world.app.state.accounts.remove_second_factor("ada", "user:root")
    assert (await operator.get("/api/v1/health")).status_code == 401  # sessions end
    assert (await operator.post("/log-in", data={"username": "ada", "password": PASSWORD})).status_code == 303
    assert (await operator.get("/people")).status_code == 403


async def test_a_new_password_ends_other_sessions(operator: httpx.AsyncClient) -> None:
    old_cookie = dict(operator.cookies)
    wrong = {"old": "wrong", "password": PASSWORD + "2", "repeat": PASSWORD + "2"}
    assert (await operator.post("/account/password", data=wrong)).status_code == 422
    answer = await operator.post("/account/password", data=wrong | {"old": PASSWORD})
    assert answer.status_code == 303
    assert dict(operator.cookies) != old_cookie
    assert (await operator.get("/account")).status_code == 200
    operator.cookies.clear()
    operator.cookies.update(old_cookie)
    assert (await operator.get("/api/v1/health")).status_code == 401


async def test_a_session_is_never_one_that_the_browser_brought(world: World, operator: httpx.AsyncClient) -> None:
    """Session fixation: a log-in makes a secret of its own, whatever cookie came with it."""
    operator.cookies.clear()
    answer = await operator.post(
        "/log-in", data={"username": "ada", "password": PASSWORD}, headers={"Cookie": "vpp_session=planted"}
    )
    assert answer.headers["set-cookie"].startswith("vpp_session=")
    assert "planted" not in answer.headers["set-cookie"]
    assert world.app.state.access.principal("planted") is None


async def test_a_token_opens_what_its_scopes_say(world: World, program: httpx.AsyncClient) -> None:
    accounts = world.app.state.accounts
    viewing = accounts.add_token("grafana", ["view"], 30, "user:ada")
    program.headers["Authorization"] = f"Bearer {viewing}"
    assert (await program.get("/api/v1/sites")).status_code == 200
    assert (await program.get("/events")).status_code == 403
    assert (await program.get("/", follow_redirects=False)).headers["location"] == "/log-in"  # pages are for people
    program.headers["Authorization"] = f"Bearer {accounts.add_token('desk', ['trade'], 30, 'user:ada')}"
    answer = await program.get("/api/v1/sites")
    assert (answer.status_code, "'view'" in answer.json()["detail"]) == (403, True)


async def test_a_token_ends_by_revocation_and_by_time(world: World, program: httpx.AsyncClient) -> None:
    accounts: Any = world.app.state.accounts
    program.headers["Authorization"] = f"Bearer {accounts.add_token('grafana', ['view'], 30, 'user:ada')}"
    assert (await program.get("/api/v1/health")).status_code == 200
    accounts.revoke_token("grafana", "user:ada")
    assert (await program.get("/api/v1/health")).status_code == 401
    program.headers["Authorization"] = f"Bearer {accounts.add_token('other', ['view'], 1, 'user:ada')}"
    world.now = world.now.replace(year=world.now.year + 1)
    assert (await program.get("/api/v1/health")).status_code == 401


async def test_guessed_tokens_lock_the_address(program: httpx.AsyncClient) -> None:
    program.headers["Authorization"] = "Bearer vppt_guess"
    answers = [(await program.get("/api/v1/health")).status_code for _ in range(ADDRESS_FAILURES + 1)]
    assert answers == [401] * ADDRESS_FAILURES + [429]


@pytest.mark.parametrize("scope", sorted(set(Permission) - TOKEN_PERMISSIONS))
async def test_no_token_is_a_second_person_or_makes_accounts(lenient: World, scope: str) -> None:
    admin = await person(lenient, "ada", "admin")
    answer = await admin.post("/people/token", data={"name": "robot", "scope": scope, "days": "30"})
    assert (answer.status_code, "is not for a token" in answer.text) == (422, True)


async def test_a_token_is_shown_once_and_kept_as_a_hash(lenient: World) -> None:
    admin = await person(lenient, "ada", "admin")
    page = (await admin.post("/people/token", data={"name": "grafana", "scope": "view", "days": "30"})).text
    found = re.search(r"vppt_[\w-]+", page)
    assert found is not None
    assert found[0] not in (await admin.get("/people")).text
    assert found[0] not in "".join(map(str, lenient.ledger.api_tokens()))


async def test_the_audit_page_shows_the_newest_first_and_escapes(lenient: World) -> None:
    admin = await person(lenient, "ada", "admin")
    lenient.ledger.audit("test.xss", actor="user:<script>", subject="<b>", at_ms=1, note="<img src=x>")
    page = (await admin.get("/audit")).text
    assert page.index("test.xss") < page.index("account.added")
    assert "<script>" not in page
    assert "<img src=x>" not in page
    assert "test.xss" not in (await admin.get("/audit", params={"action": "log-in"})).text
