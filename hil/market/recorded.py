"""Recorded prices as if they were today's: the scenario's recorded hour begins at a given instant of this run.

Energy: the tariff of the recorded homes (CityLearn 2022, Fontana, California, 2016), the same price both ways, as
under the Californian net metering of that year. Reserve: PJM's synchronised-reserve clearing price (SRMCP) in the
Mid-Atlantic Dominion subzone, 2017. The scenario's hour is two to three in the afternoon, local time, of a hot
September day in both: 21 September 2016 in Fontana; 21 September 2017, hour ending 19:00 GMT, in PJM (465.30 USD/MWh).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hil.data.recordings import fontana_region, reserve_prices
from hil.rigs.recorded import RecordedTime

RESERVE_START = datetime(2017, 9, 21, 18, tzinfo=UTC)
"""What the scenario's recorded start stands for in the reserve prices, which are of another year and place."""
SUBZONE = "PJM Mid Atlantic Dominion (MAD)"
HOUR = timedelta(hours=1)


class OutsideRecording(ValueError):
    """Nothing was recorded for the time asked for; says what was."""


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A price that holds for an hour from `start`."""

    start: datetime  # UTC, of this run
    price: Decimal


class RecordedPrices:
    """The two recorded series on this run's clock, which begins with the rig's."""

    def __init__(self, start_utc: datetime) -> None:
        time, region = RecordedTime(start_utc), fontana_region()
        self._tariff = [
            PriceRow(time.utc(region.first + hour * HOUR), price) for hour, price in enumerate(region.price_usd_per_kwh)
        ]
        self._reserve = sorted(
            (
                PriceRow(time.start_utc + (row.start - RESERVE_START), row.usd_per_mw_h)
                for row in reserve_prices()
                if row.subzone == SUBZONE
            ),
            key=lambda row: row.start,
        )

    def tariff(self, start: datetime, end: datetime) -> list[PriceRow]:
        """USD/kWh, import and export alike, of every hour that touches [start, end). Raises OutsideRecording."""
        return _covering(self._tariff, start, end, "tariff")

    def reserve(self, start: datetime, end: datetime) -> list[PriceRow]:
        """USD/MW and hour, of every hour that touches [start, end). Raises OutsideRecording."""
        return _covering(self._reserve, start, end, "reserve price")

    def reserve_before(self, start: datetime, end: datetime, now: datetime) -> list[PriceRow]:
        """As `reserve`, but only hours that are over, and no complaint about hours that were not recorded."""
        return _select(self._reserve, lambda row: row.start + HOUR > start and row.start + HOUR <= min(end, now))


def _covering(rows: list[PriceRow], start: datetime, end: datetime, what: str) -> list[PriceRow]:
    first, last = rows[0].start, rows[-1].start + HOUR
    if start < first or end > last:
        raise OutsideRecording(f"{what}: recorded from {first.isoformat()} to {last.isoformat()} only")
    return _select(rows, lambda row: row.start + HOUR > start and row.start < end)


def _select(rows: list[PriceRow], wanted: Callable[[PriceRow], bool]) -> list[PriceRow]:
    return [row for row in rows if wanted(row)]
