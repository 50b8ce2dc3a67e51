"""The market as a process, spoken to by the coordinator's own client over HTTP."""

import asyncio
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from cloud.markets.client import MarketClient, MarketRefused, MarketUnavailable
from hil.market.testing import MarketProcess

SECOND = timedelta(seconds=1)


def open_session(market: MarketProcess, closes_in: timedelta) -> dict[str, str]:
    now = datetime.now(UTC)
    times = {
        "gate_closure": now + closes_in,
        "delivery_start": now + closes_in + 5 * SECOND,
        "delivery_end": now + closes_in + 65 * SECOND,
    }
    response = httpx.post(f"{market.url}/sessions", json={k: v.isoformat() for k, v in times.items()}, timeout=10)
    assert response.status_code == 201, response.text
    session: dict[str, str] = response.json()
    return session


async def test_offer_before_and_award_after_gate_closure(market: MarketProcess) -> None:
    async with MarketClient(market.url, "murmuration") as client:
        assert await client.sessions() == []
        told = open_session(market, 2 * SECOND)
        (session,) = await client.sessions()
        assert (session.id, session.state) == (told["id"], "open")
        assert {p.id for p in session.products} == {"ffr", "droop"}
        offer_id = await client.offer(session.id, "ffr", 18_000, Decimal("0.40"))
        with pytest.raises(MarketRefused, match="clears at"):
            await client.awards(session.id)
        deadline = datetime.now(UTC) + 20 * SECOND
        while (await client.sessions())[0].state == "open":
            assert datetime.now(UTC) < deadline
            await asyncio.sleep(0.1)
        with pytest.raises(MarketRefused, match="gate closed"):
            await client.offer(session.id, "droop", 1_000, Decimal("0.40"))
        (award,) = await client.awards(session.id)
        assert (award.offer_id, award.power_w, award.clearing_price_per_mw_h) == (offer_id, 18_000, Decimal("465.3"))


async def test_prices_as_recorded(market: MarketProcess) -> None:
    hour = timedelta(hours=1)
    async with MarketClient(market.url, "murmuration") as client:
        tariff = await client.tariff(market.started, market.started + 23 * hour)
        assert (tariff.mtu_s, tariff.currency, len(tariff.rows)) == (3600, "USD", 24)
        assert sorted({row.import_price for row in tariff.rows}) == [Decimal("0.22"), Decimal("0.54")]
        past = await client.reserve_prices("ffr", market.started - 3 * hour, market.started + hour)
        assert [row.price for row in past.rows] == [Decimal("0.0"), Decimal("8.43"), Decimal("10.79")]
        with pytest.raises(MarketRefused, match="recorded from"):
            await client.tariff(market.started, market.started + 1000 * hour)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param('{"product": "ffr"', "body", id="not JSON"),
        pytest.param('{"product": "ffr", "participant": "us", "power_w": 5}', "price_per_mw_h", id="a key is missing"),
        pytest.param(
            '{"product": "ffr", "participant": "us", "power_w": 5.5, "price_per_mw_h": "1"}', "power_w", id="half watts"
        ),
        pytest.param(
            '{"product": "ffr", "participant": "us", "power_w": 5, "price_per_mw_h": 1.1}', "price", id="float money"
        ),
    ],
)
def test_malformed_offers_are_refused_with_a_reason(market: MarketProcess, body: str, reason: str) -> None:
    session = open_session(market, 60 * SECOND)
    response = httpx.post(f"{market.url}/sessions/{session['id']}/offers", content=body, timeout=10)
    assert response.status_code == 422
    assert reason in response.json()["reason"]


async def test_a_market_that_is_gone_is_said_in_words(market: MarketProcess) -> None:
    async with MarketClient(market.url, "murmuration") as client:
        assert await client.sessions() == []
        assert market.stop() == 0
        with pytest.raises(MarketUnavailable, match=market.url):
            await client.sessions()


def test_a_port_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "hil.cli", "market", "--data", str(tmp_path), "--port", port]
        command += ["--recorded-start-utc", "2026-01-01T00:00:00Z"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"vpp-hil: market on port {port}")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("instant", ["yesterday", "2026-01-01T00:00:00"])
def test_an_instant_that_is_none_is_refused_in_words(instant: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hil.cli", "market", "--data", str(tmp_path), "--recorded-start-utc", instant]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert instant in ended.stderr.splitlines()[-1]
    assert "_instant" not in ended.stderr
