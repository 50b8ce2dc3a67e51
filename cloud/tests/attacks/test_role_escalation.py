"""Somebody does what his role does not allow: by a page's address, by an old session, by a program's token."""

from typing import Any

import httpx
import pytest

from cloud.api.access import ADDRESS_FAILURES
from cloud.api.testing import OPEN, World, person, routes
from cloud.model.access import ROLES, TOKEN_PERMISSIONS, Permission

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
