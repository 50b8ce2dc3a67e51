"""Headers that name another address, against the lock-out by address."""

import httpx
import pytest

from cloud.api.testing import World


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a_header_does_not_move_the_address_that_is_locked_out(world: World, header: str) -> None:
    transport = httpx.ASGITransport(app=world.app, client=("192.0.2.66", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
        answers = [
            await client.post("/log-in", data={"username": f"u{n}", "password": "x"}, headers={header: f"10.0.0.{n}"})
            for n in range(21)
        ]
    assert answers[-1].status_code == 429
