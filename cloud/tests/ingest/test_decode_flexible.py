"""Frames of sites with chargers and loads that can wait, beside those of sites without."""

import numpy as np
import pytest

from cloud.fleet.state import FleetState
from cloud.ingest.decode import decode
from cloud.model.telemetry import HOLE
from protos import frame
from protos.vpp.v1 import telemetry_pb2

NOW_MS = 1_790_000_000_000
Columns = list[list[float | None]]
PLAIN: Columns = [[100.0 * point + sample * (point != 2) for sample in range(10)] for point in range(6)]
MORE: Columns = [[-11_040.0 + sample for sample in range(10)], [0.0] * 10, [1_234.0] * 10, [1.0] * 10]

NOTHING: Columns = [[None] * 10 for _ in range(4)]


def packed(site: int, columns: Columns, interval_ms: int = 100) -> bytes:
    return frame.pack(site, 1, NOW_MS, interval_ms, columns)


@pytest.mark.parametrize("interval_ms", [100, 1000])
@pytest.mark.parametrize("hole", [False, True], ids=["narrow", "wide"])
def test_the_fast_path_reads_what_the_parser_reads(interval_ms: int, hole: bool) -> None:
    columns: Columns = [list(column) for column in (*PLAIN, *MORE)]
    if hole:
        columns[7][0] = None
    body = packed(7, columns, interval_ms)
    message = telemetry_pb2.Frame.FromString(body)
    layouts = frame.WIDE_FLEXIBLE if hole else frame.NARROW_FLEXIBLE
    assert message.layout == layouts[interval_ms]
    assert message.SerializeToString() == body
    fast, bad = decode([frame.batch([body])], NOW_MS + 60_000)
    message.ext["note"] = "not canonical: the parser reads it"
    slow, worse = decode([telemetry_pb2.Batch(frames=[message]).SerializeToString()], NOW_MS + 60_000)
    assert bad == worse == []
    assert fast.flexible is not None
    assert slow.flexible is not None
    assert np.array_equal(fast.counts, slow.counts)
    assert np.array_equal(fast.flexible, slow.flexible)
    assert fast.counts[0, 5].tolist() == [500 + sample for sample in range(10)]
    assert fast.flexible[0, 0].tolist() == [-11_040 + sample for sample in range(10)]
    assert fast.flexible[0, 1, 0] == (HOLE if hole else 0)


def test_sites_with_and_without_share_a_table_and_each_keeps_its_own() -> None:
    frames, bad = decode([frame.batch([packed(1, PLAIN)]), frame.batch([packed(2, [*PLAIN, *MORE])])], NOW_MS + 60_000)
    assert bad == []
    assert frames.slot.tolist() == [1, 2]
    assert frames.flexible is not None
    assert (frames.flexible[0] == HOLE).all()
    fleet = FleetState()
    fleet.update(frames, NOW_MS + 60_000)
    assert fleet.inverter_power_w[1:3].tolist() == [109.0, 109.0]
    assert np.isnan(fleet.ev_power_w[1])
    assert [float(column[2]) for column in (fleet.ev_power_w, fleet.ev_session_wh, fleet.ev_connected)] == [
        -11_031.0,
        1_234.0,
        1.0,
    ]
    assert fleet.steered_power_w[1:3].tolist() == [109.0, 109.0 - 11_031.0]
    only_plain = frames.take(frames.slot == 1)
    assert len(only_plain) == 1


def test_a_site_that_has_none_any_more_is_not_remembered_with_one() -> None:
    fleet = FleetState()
    for body in (packed(2, [*PLAIN, *MORE]), frame.pack(2, 2, NOW_MS + 1_000, 100, [*PLAIN, *NOTHING])):
        frames, bad = decode([frame.batch([body])], NOW_MS + 60_000)
        assert bad == []
        fleet.update(frames, NOW_MS + 60_000)
    assert np.isnan(fleet.ev_power_w[2])
