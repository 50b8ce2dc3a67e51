"""The live fleet: what came last of each site, and sums on one grid of instants."""

import numpy as np
import pytest

from cloud.fleet.state import AHEAD_MS, RING_TICKS, TICK_MS, FleetState
from cloud.model.telemetry import HOLE, POINTS, SAMPLES, SCALES, Array, Frames

NOW_MS = 1_790_000_000_000


def frames_of(*sent: tuple[int, int, dict[str, float | list[float | None]]], interval_ms: int = 100) -> Frames:
    """Frames of (slot, first sample's instant, values by point); other points are holes."""
    counts = np.full((len(sent), len(POINTS), SAMPLES), HOLE, dtype=np.int32)
    for row, (_, _, points) in enumerate(sent):
        for point, values in points.items():
            index = POINTS.index(point)
            values = values if isinstance(values, list) else [values] * SAMPLES
            counts[row, index] = [HOLE if one is None else round(one / SCALES[index]) for one in values]
    number = len(sent)
    return Frames(
        message=np.zeros(number, dtype=np.int64),
        slot=np.array([slot for slot, _, _ in sent], dtype=np.int64),
        seq=np.arange(number),
        t0_ms=np.array([t0_ms for _, t0_ms, _ in sent], dtype=np.int64),
        interval_ms=np.full(number, interval_ms),
        blocks=counts,
    )


@pytest.fixture
def fleet() -> FleetState:
    return FleetState()


def known(column: Array) -> list[float]:
    return [round(float(value), 6) for value in column]


def test_the_newest_sample_of_each_site_is_shown(fleet: FleetState) -> None:
    ramp: list[float | None] = [float(value) for value in range(SAMPLES)]
    fleet.update(
        frames_of(
            (2, NOW_MS, {"inverter_power_w": ramp, "soc": 0.5}),
            (0, NOW_MS - 1000, {"inverter_power_w": -700.0}),
            (0, NOW_MS, {"inverter_power_w": -800.0}),
        ),
        NOW_MS + 1000,
    )
    assert np.isnan(fleet.inverter_power_w[1])
    assert known(fleet.inverter_power_w[[0, 2]]) == [-800.0, 9.0]
    assert known(fleet.soc[[2]]) == [0.5]
    assert np.isnan(fleet.soc[0])
    assert fleet.last_seen_ms.tolist() == [NOW_MS + 900, 0, NOW_MS + 900]
    assert fleet.frames.tolist() == [2, 0, 1]


def test_the_last_sample_that_is_not_a_hole_counts_and_all_holes_are_unknown(fleet: FleetState) -> None:
    fleet.update(frames_of((0, NOW_MS, {"voltage_v": 231.0, "soc": 0.4})), NOW_MS)
    half: list[float | None] = [229.9] * 5 + [None] * 5
    fleet.update(frames_of((0, NOW_MS + 1000, {"voltage_v": half})), NOW_MS + 2000)
    assert known(fleet.voltage_v) == [229.9]
    assert np.isnan(fleet.soc).all()  # a device that was lost is not shown as it was


def test_older_frames_are_counted_and_leave_the_row(fleet: FleetState) -> None:
    fleet.update(frames_of((0, NOW_MS, {"grid_power_w": 5.0})), NOW_MS + 1000)
    fleet.update(frames_of((0, NOW_MS - 60_000, {"grid_power_w": 99.0})), NOW_MS + 1000)
    assert known(fleet.grid_power_w) == [5.0]
    assert fleet.last_seen_ms.tolist() == [NOW_MS + 900]
    assert fleet.frames.tolist() == [2]


def test_a_site_with_a_clock_far_ahead_neither_shows_nor_hides_anything(fleet: FleetState) -> None:
    ahead_ms = NOW_MS + AHEAD_MS + 10_000
    fleet.update(frames_of((1, ahead_ms, {"inverter_power_w": 1.0}), (0, NOW_MS, {"inverter_power_w": 7.0})), NOW_MS)
    assert fleet.last_seen_ms.tolist() == [NOW_MS + 900, 0]
    assert fleet.frames.tolist() == [1, 1]
    assert fleet.recent(0).utc_ms[-1] == NOW_MS + 900
    fleet.update(frames_of((1, NOW_MS + 1000, {"inverter_power_w": 2.0})), NOW_MS + 2000)  # its clock is right again
    assert known(fleet.inverter_power_w) == [7.0, 2.0]


def test_sums_and_means_by_instant(fleet: FleetState) -> None:
    fleet.update(frames_of((0, NOW_MS, {"inverter_power_w": 100.0, "frequency_hz": 59.9})), NOW_MS + 1000)
    fleet.update(
        frames_of((1, NOW_MS + 500, {"inverter_power_w": -40.0, "frequency_hz": 60.1, "grid_power_w": 3.0})),
        NOW_MS + 2000,
    )
    slots = fleet.recent(NOW_MS - 1)
    assert slots.utc_ms.tolist() == list(range(NOW_MS, NOW_MS + 1500, TICK_MS))
    assert slots.sites.tolist() == [1] * 5 + [2] * 5 + [1] * 5
    assert known(slots.inverter_power_w) == [100.0] * 5 + [60.0] * 5 + [-40.0] * 5
    assert known(slots.frequency_hz) == [59.9] * 5 + [60.0] * 5 + [60.1] * 5
    assert np.isnan(slots.grid_power_w).tolist() == [True] * 5 + [False] * 10
    assert fleet.recent(NOW_MS + 1300).utc_ms.tolist() == [NOW_MS + 1400]


def test_a_missed_cycle_of_one_site_is_no_loss_of_power(fleet: FleetState) -> None:
    ramp: list[float | None] = [None, 10.0, 20.0, None, None, 50.0, None, 70.0, None, None]
    fleet.update(
        frames_of((0, NOW_MS, {"inverter_power_w": 1000.0}), (1, NOW_MS, {"inverter_power_w": ramp})), NOW_MS + 1000
    )
    slots = fleet.recent(NOW_MS - 1)
    # The nearest measured value, the earlier one of two equally near:
    assert known(slots.inverter_power_w - 1000.0) == [10, 10, 20, 20, 50, 50, 50, 70, 70, 70]
    assert np.isnan(slots.grid_power_w).all()  # a whole frame of holes is not bridged


def test_at_a_sample_a_second_only_one_missed_sample_is_bridged(fleet: FleetState) -> None:
    sparse: list[float | None] = [1.0, None, None, None, 5.0, None, None, None, None, None]
    fleet.update(frames_of((0, NOW_MS, {"inverter_power_w": sparse}), interval_ms=1000), NOW_MS + 10_000)
    assert np.isnan(fleet.recent(NOW_MS - 1).inverter_power_w[::10]).tolist() == [
        second not in {0, 1, 3, 4, 5} for second in range(10)
    ]


def test_a_sample_a_second_stands_for_its_whole_second(fleet: FleetState) -> None:
    ramp: list[float | None] = [float(value) for value in range(SAMPLES)]
    fleet.update(frames_of((0, NOW_MS, {"inverter_power_w": ramp}), interval_ms=1000), NOW_MS + 10_000)
    slots = fleet.recent(NOW_MS - 1)
    assert known(slots.inverter_power_w) == [float(tick // 10) for tick in range(100)]


def test_only_the_last_minute_is_kept(fleet: FleetState) -> None:
    for second in range(100):
        at_ms = NOW_MS + 1000 * second
        fleet.update(frames_of((0, at_ms, {"inverter_power_w": float(second)})), at_ms + 1000)
    slots = fleet.recent(0)
    assert len(slots.utc_ms) == RING_TICKS
    assert known(slots.inverter_power_w[::10]) == [float(second) for second in range(40, 100)]
    fleet.update(frames_of((1, NOW_MS, {"inverter_power_w": 1e6})), NOW_MS + 101_000)  # too late for the minute
    assert known(fleet.recent(0).inverter_power_w) == known(slots.inverter_power_w)
    fleet.update(frames_of((0, NOW_MS + 99_000 + 10 * 60_000, {"inverter_power_w": 1.0})), NOW_MS + 10**7)
    slots = fleet.recent(0)
    assert slots.sites.tolist() == [0] * 590 + [1] * 10  # nobody reported in between


def test_an_empty_fleet_has_nothing_to_show(fleet: FleetState) -> None:
    fleet.update(frames_of(), NOW_MS)
    assert len(fleet.recent(0).utc_ms) == 0
    assert len(fleet.soc) == 0


def test_columns_cannot_be_written_by_those_who_read_them(fleet: FleetState) -> None:
    fleet.update(frames_of((0, NOW_MS, {"soc": 0.5})), NOW_MS)
    with pytest.raises(ValueError, match="read-only"):
        fleet.soc[0] = 1.0
    fleet.update(frames_of((0, NOW_MS + 1000, {"soc": 0.6})), NOW_MS)
    assert known(fleet.soc) == [0.6]


def test_counters_add_up(fleet: FleetState) -> None:
    fleet.count("duplicates", np.array([1, 1, 3]))
    fleet.count("refused", np.array([0]))
    fleet.set_gaps(np.array([2]), np.array([7]))
    assert fleet.duplicates.tolist() == [0, 2, 0, 1]
    assert fleet.refused.tolist() == [1, 0, 0, 0]
    assert fleet.gaps.tolist() == [0, 0, 7, 0]
