"""A session that somebody planted, or copied, is worth nothing."""

import httpx

from cloud.api.testing import PASSWORD, World


async def test_a_copied_cookie_is_worth_nothing_after_log_out(operator: httpx.AsyncClient) -> None:
    copied = dict(operator.cookies)
    await operator.post("/log-out")
    operator.cookies.update(copied)
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
