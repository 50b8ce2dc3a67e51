"""A page of somebody else's makes the operator's browser ask for something."""

import httpx
import pytest

from cloud.api.testing import PASSWORD, World

LOG_IN = {"username": "ada", "password": PASSWORD}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "http://evil.test"}, id="foreign origin"),
        pytest.param({"Origin": "null"}, id="opaque origin"),
        pytest.param({"Origin": "https://console.test"}, id="other scheme"),
        pytest.param({"Origin": "http://console.test:81"}, id="other port"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site", "Origin": "http://console.test"}, id="same domain"),
    ],
)
async def test_a_foreign_page_cannot_post(operator: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await operator.post("/log-out", headers=headers)).status_code == 403
    assert (await operator.get("/api/v1/health")).status_code == 200


async def test_own_pages_can_post(operator: httpx.AsyncClient) -> None:
    own = {"Origin": "http://console.test", "Sec-Fetch-Site": "same-origin"}
    assert (await operator.post("/log-out", headers=own)).status_code == 303


async def log_in_cookie(world: World, scheme: str) -> str:
    transport = httpx.ASGITransport(app=world.app)
    async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://console.test") as client:
        return (await client.post("/log-in", data=LOG_IN)).headers["set-cookie"].lower()


async def test_cookie_is_out_of_reach_of_scripts_and_other_sites(world: World, operator: httpx.AsyncClient) -> None:
    plain, over_tls = await log_in_cookie(world, "http"), await log_in_cookie(world, "https")
    assert plain.startswith("vpp_session=")
    assert "; secure" not in plain
    assert over_tls.startswith("__host-vpp_session=")
    assert "; secure" in over_tls
    assert "domain=" not in over_tls
    for cookie in (plain, over_tls):
        assert "; httponly" in cookie
        assert "; samesite=strict" in cookie
        assert "; path=/" in cookie
