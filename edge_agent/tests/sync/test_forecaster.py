"""Which source the site's forecast comes from, and why; the models run in their real process."""

import asyncio
import math
from pathlib import Path

import pytest

from edge_agent.forecast import runner
from edge_agent.model.forecast import Expectation
from edge_agent.sync import forecaster as forecasting
from edge_agent.sync.forecaster import BUILT_IN, PERSISTENCE, Forecaster
from edge_agent.sync.models import CannotTry
from edge_agent.sync.quarters import Quarter, write
from edge_agent.tests.forecast import models

NOW_S = 1_800_000_000  # the beginning of a quarter hour
DAY, QUARTER_S = 96, 900


class Clock:
    def utc_ms(self) -> int:
        return 1000 * NOW_S + 1

    def monotonic_s(self) -> float:
        return float(NOW_S)


def like(day: int, quarter: int) -> Quarter:
    """A home whose load grows by 10 W a day; the sun shines by day."""
    return 500.0 + 10 * day, 2000.0 * max(0.0, math.sin((quarter / 4 - 6) / 12 * math.pi))


def lived(folder: Path, days: int) -> None:
    """`days` of such a life until now."""
    first_s = NOW_S - days * DAY * QUARTER_S
    write(folder, {first_s + QUARTER_S * n: like(n // DAY, n % DAY) for n in range(days * DAY)})


class Site:
    def __init__(self, folder: Path) -> None:
        self.told: list[Expectation] = []
        self.changes: list[str] = []
        self._came = asyncio.Event()
        self.forecaster = Forecaster(folder, Clock(), every_s=3600.0, tell=self._take, changed=self.changes.append)

    def _take(self, expected: Expectation) -> None:
        self.told.append(expected)
        self._came.set()

    async def next(self) -> Expectation:
        """What it expects at its start, or at once when it is woken."""
        self._came.clear()
        self.forecaster._due.set()  # not a random moment later
        task = asyncio.create_task(self.forecaster.run())
        try:
            async with asyncio.timeout(60):
                await self._came.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return self.told[-1]


def shipped(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes) -> None:
    """Another model comes with the agent."""
    (folder / "site-forecast.onnx").write_bytes(content)
    monkeypatch.setattr("edge_agent.sync.forecaster.resources.files", lambda _: folder)


async def test_the_model_that_comes_with_the_agent_is_used(tmp_path: Path) -> None:
    lived(tmp_path, 20)
    site = Site(tmp_path)
    expected = await site.next()
    assert (expected.source, expected.note) == (BUILT_IN, "")
    assert expected.start_ms == 1000 * NOW_S
    assert len(expected.load_w) == len(expected.sun_w) == 144
    day_wh = expected.energy_wh(expected.load_w, 1000.0 * NOW_S, 24.0)
    assert day_wh == pytest.approx(24 * 690, rel=0.2)
    await site.next()
    assert site.changes == [BUILT_IN], "told once"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"garbage", "is no ONNX model", id="garbage"),
        pytest.param(models.constant(math.nan), "not finite", id="not a number"),
        pytest.param(models.column(factor=0.1), "seasonal persistence", id="much worse than persistence"),
    ],
)
async def test_without_a_model_that_can_be_used_it_is_persistence_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    lived(tmp_path, 20)
    shipped(monkeypatch, tmp_path, content)
    site = Site(tmp_path)
    expected = await site.next()
    assert expected.source == PERSISTENCE
    assert says in expected.note
    assert expected.load_w[:DAY] == (500.0 + 10 * 13,) * DAY, "as a week ago"
    assert site.changes == [f"{PERSISTENCE}: {expected.note}"]


async def test_without_onnxruntime_it_goes_on_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(tmp_path, 8)
    for module in (runner, forecasting):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    site = Site(tmp_path)
    expected = await site.next()
    assert expected.source == PERSISTENCE
    assert "pip install 'murmuration-vpp[forecast]'" in expected.note
    with pytest.raises(CannotTry, match="onnxruntime"):
        await site.forecaster.try_model(tmp_path / "any.onnx")


async def test_a_new_site_repeats_what_little_it_knows(tmp_path: Path) -> None:
    lived(tmp_path, 1)
    expected = await Site(tmp_path).next()
    assert (expected.source, expected.note) == (PERSISTENCE, "less than a day and a half of the last week was measured")
    assert expected.load_w == (500.0,) * 144


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(models.column(), "", id="good"),
        pytest.param(models.column(factor=3.0), "its load of a home whose days are all alike", id="nonsense"),
        pytest.param(models.column(factor=1.6), "W wrong, seasonal persistence", id="worse on this site's last days"),
    ],
)
async def test_a_model_that_came_is_tried_on_the_sites_own_last_days(tmp_path: Path, content: bytes, says: str) -> None:
    lived(tmp_path, 20)
    (tmp_path / "new.onnx").write_bytes(content)
    reason = await Site(tmp_path).forecaster.try_model(tmp_path / "new.onnx")
    assert (says in reason) if says else reason == ""


async def test_a_model_much_worse_than_the_one_before_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(tmp_path, 20)
    shipped(monkeypatch, tmp_path, models.column(0))  # yesterday: 10 W wrong here, where a week ago is 70 W wrong
    (tmp_path / "new.onnx").write_bytes(models.column())
    reason = await Site(tmp_path).forecaster.try_model(tmp_path / "new.onnx")
    assert "the model before it 10 W" in reason
