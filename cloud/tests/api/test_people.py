"""Accounts, invitations, second factors and tokens on their pages."""

import base64
import re

import httpx
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from cloud.api.testing import PASSWORD, World, person


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


async def test_a_token_is_shown_once_and_kept_as_a_hash(lenient: World) -> None:
    admin = await person(lenient, "ada", "admin")
    page = (await admin.post("/people/token", data={"name": "grafana", "scope": "view", "days": "30"})).text
    found = re.search(r"vppt_[\w-]+", page)
    assert found is not None
    assert found[0] not in (await admin.get("/people")).text
    assert found[0] not in "".join(map(str, lenient.ledger.api_tokens()))
