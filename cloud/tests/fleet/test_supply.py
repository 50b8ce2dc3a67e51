import numpy as np
import pytest

from cloud.dispatch.prices import PriceGrid
from cloud.fleet.supply import Cause, SupplyColumns
from protos.vpp.v1.supply_pb2 import SupplyFunction

NOW_MS = 1_800_000_000_000
GRID = PriceGrid()


def report(slot: int, seq: int = 1, **changed: object) -> SupplyFunction:
    fields: dict[str, object] = {
        "site": slot,
        "seq": seq,
        "at_ms": NOW_MS,
        "valid_s": 300,
        "lower_w": -3000,
        "upper_w": 4000,
        "energy_up_wh": 5000,
        "energy_down_wh": 2000,
        "ticks": [-10, 100, 100, 250],
        "power_w": [-3000, -3000, 100, 4000],
    }
    return SupplyFunction(**(fields | changed))  # type: ignore[arg-type]


def columns(*reports: SupplyFunction) -> SupplyColumns:
    made = SupplyColumns(GRID)
    made.update(np.array([r.site for r in reports]), [r.SerializeToString() for r in reports], NOW_MS)
    return made


def test_reports_of_either_encoding_become_the_same_columns() -> None:
    plain, zeros = report(1), report(2, lower_w=-3000, energy_up_wh=0, power_w=[-3000, -3000, 0, 4000])
    made = columns(plain, zeros, report(3, ticks=[7], power_w=[500]))
    assert made.rows.ticks[:5, 1].tolist() == [t - GRID.first for t in (-10, 100, 100, 250, 250)]
    assert made.rows.power_w[:5, 1].tolist() == [-3000, -3000, 100, 4000, 4000]
    assert made.rows.power_w[:5, 2].tolist() == [-3000, -3000, 0, 4000, 4000]
    assert set(made.rows.power_w[:, 3].tolist()) == {500}
    assert (made.lower_w[1], made.upper_w[1], made.energy_up_wh[1], made.energy_down_wh[1]) == (-3000, 4000, 5000, 2000)
    assert made.in_force(NOW_MS + 299_999)[:4].tolist() == [False, True, True, True]
    assert not made.in_force(NOW_MS + 300_000).any()


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (report(1, ticks=[0, -1], power_w=[0, 0]), Cause.FALLS),
        (report(1, ticks=[0, 1], power_w=[5, 4]), Cause.FALLS),
        (report(1, ticks=[-60_000], power_w=[1]), Cause.FALLS),
        (report(1, lower_w=5, upper_w=-5), Cause.BOUNDS),
        (report(1, power_w=[-3000, 0, 0, 4001]), Cause.BOUNDS),
        (report(1, at_ms=NOW_MS + 60_000), Cause.INSTANT),
        (report(1, at_ms=2**64 - 1), Cause.INSTANT),
        (report(1, valid_s=0), Cause.INSTANT),
        (report(1, ticks=[1, 2], power_w=[1]), Cause.POINTS),
        (report(1, ticks=[], power_w=[]), Cause.POINTS),
        (report(1, ticks=range(17), power_w=range(17)), Cause.POINTS),
        (report(2), Cause.OWNER),
    ],
)
def test_what_is_wrong_is_counted_and_changes_nothing(bad: SupplyFunction, cause: Cause) -> None:
    made = SupplyColumns(GRID)
    owner = np.array([1, 1, 1])
    taken = made.update(owner, [b"\xff", bad.SerializeToString(), report(1, 9).SerializeToString()], NOW_MS)
    assert (taken, made.seq[1]) == (1, 9)
    assert {name: count for name, count in made.refused.items() if count} == {Cause.NOT_ONE: 1, cause: 1}


def test_the_newest_of_a_site_stands_whatever_the_order() -> None:
    made = columns(report(1, 5, upper_w=4005), report(1, 7, upper_w=4007), report(1, 6, upper_w=4006))
    assert (made.seq[1], made.upper_w[1]) == (7, 4007)
    made.update(np.array([1]), [report(1, 6).SerializeToString()], NOW_MS)
    assert (made.seq[1], made.refused[Cause.OLD]) == (7, 1)
