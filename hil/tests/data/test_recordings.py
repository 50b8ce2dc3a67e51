"""The trimmed recordings still say what their source says (SOURCES.md, and single rows of the originals)."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from hil.data.recordings import (
    RecordingError,
    fontana_home,
    fontana_region,
    grid_ten_minutes,
    reserve_prices,
    underfrequency_event,
)


def test_event_is_the_described_disturbance() -> None:
    event = underfrequency_event(bus=1)
    assert len(event.time_s) == 4500
    assert event.frequency_hz[0] == 60.0
    assert event.frequency_hz.min() == 59.77
    assert event.time_s[event.frequency_hz.argmin()] == pytest.approx(71.7, abs=0.05)
    assert event.frequency_hz[-1] == pytest.approx(59.89, abs=0.005)
    assert np.diff(event.time_s) == pytest.approx(1 / 30, abs=1e-6)


def test_ten_minutes_of_a_day_are_rows_of_the_original() -> None:
    minutes = grid_ten_minutes()
    assert minutes.time_s.tolist() == list(range(601))
    assert minutes.frequency_hz.min() / 60 == pytest.approx(0.99942)
    assert minutes.frequency_hz.max() / 60 == pytest.approx(1.0007)


def test_home_row_of_the_original() -> None:
    home = fontana_home(6)
    row = (datetime(2016, 9, 21, 14) - home.first).days * 24 + 14  # noqa: DTZ001
    assert len(home.load_wh) == 24 * 24
    assert home.load_wh[row] == pytest.approx(4004.7)
    assert round(home.pv_w_per_kw[row]) == 291


def test_tariff_peaks_in_the_late_afternoon() -> None:
    region = fontana_region()
    assert {region.price_usd_per_kwh[20 * 24 + hour] for hour in range(15, 19)} == {Decimal("0.54")}
    assert region.price_usd_per_kwh[20 * 24 + 14] == Decimal("0.22")


def test_reserve_price_hours_are_hours_ending_in_the_original() -> None:
    prices = {(p.start, p.subzone): p.usd_per_mw_h for p in reserve_prices()}
    assert len(prices) == 2 * 24 * 11
    # "09/20/2017 00","RTO","Non PJM Mid Atlantic Dominion (MAD)","7.77"
    assert prices[datetime(2017, 9, 19, 23, tzinfo=UTC), "Non PJM Mid Atlantic Dominion (MAD)"] == Decimal("7.77")


@pytest.mark.parametrize("number", [0, 12])
def test_unrecorded_home_is_refused(number: int) -> None:
    with pytest.raises(RecordingError, match=r"1\.\.11"):
        fontana_home(number)


def test_unrecorded_bus_is_refused() -> None:
    with pytest.raises(RecordingError, match="bus 3"):
        underfrequency_event(bus=3)
