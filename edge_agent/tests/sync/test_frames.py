"""Snapshots to frames: no sample lost, none doubled, holes stay holes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sync.frames import BACK_STEP_MS, FrameBuilder, FrameDraft
from protos.frame import FLEXIBLE_POINTS, HOLE_32, POINTS, unpack
from protos.vpp.v1.local_pb2 import SnapshotReport
from protos.vpp.v1.telemetry_pb2 import Frame

T0_MS = 1_700_000_000_000


def snapshot(at_ms: int, frequency_hz: float = 50.0) -> SnapshotReport:
    return SnapshotReport(at_ms=at_ms, frequency_hz=frequency_hz)


def samples(drafts: list[FrameDraft]) -> list[tuple[int, float]]:
    """(UTC, frequency) of everything that is no hole, in the order sent."""
    index = [name for name, _ in POINTS].index("frequency_hz")
    return [
        (draft.t0_ms + i * draft.interval_ms, value)
        for draft in drafts
        for i, row in enumerate(draft.rows)
        if (value := row[index]) is not None
    ]


def run(builder: FrameBuilder, reports: list[SnapshotReport]) -> list[FrameDraft]:
    return [draft for report in reports for draft in builder.add(report)] + builder.flush()


def test_the_last_snapshot_up_to_an_instant_is_its_sample() -> None:
    reports = [snapshot(T0_MS + ms, 50.0 + ms / 1000) for ms in (-99, -50, 0, 1, 60, 100, 101)]
    assert samples(run(FrameBuilder(100), reports)) == [(T0_MS, 50.0), (T0_MS + 100, 50.1), (T0_MS + 200, 50.101)]


def test_a_frame_begins_at_a_multiple_of_its_length_and_ends_with_its_last_slot() -> None:
    drafts = run(FrameBuilder(100), [snapshot(T0_MS + ms) for ms in range(300, 2050, 50)])
    assert [draft.t0_ms for draft in drafts] == [T0_MS, T0_MS + 1000, T0_MS + 2000]
    assert [len(samples([draft])) for draft in drafts] == [7, 10, 1]


def test_an_empty_slot_is_a_hole_on_the_wire() -> None:
    [draft] = run(FrameBuilder(1000), [snapshot(T0_MS + 1000 * i, 50.0) for i in (0, 1, 3)])
    frame = Frame.FromString(draft.pack(slot=9, seq=4))
    assert (frame.site, frame.seq, frame.t0_ms) == (9, 4, T0_MS)
    # Canonical narrow block: int32 base and nine int16 offsets a point; grid power has no value at all here, so the
    # wide layout (ten int32 a point) is used.
    counts = [int.from_bytes(frame.block[4 * i : 4 * i + 4], "little", signed=True) for i in range(10 * len(POINTS))]
    frequency = counts[30:40]
    assert frequency == [50_000, 50_000, HOLE_32, 50_000, *[HOLE_32] * 6]
    assert counts[0:10] == [HOLE_32] * 10


def test_a_snapshot_that_is_older_than_its_slots_is_passed_over() -> None:
    builder = FrameBuilder(100)
    reports = [snapshot(T0_MS + 90, 50.9), snapshot(T0_MS + 40, 50.4)]
    assert samples(run(builder, reports)) == [(T0_MS + 100, 50.9)]


def test_a_restart_in_the_middle_of_a_frame_repeats_nothing() -> None:
    first = run(FrameBuilder(100), [snapshot(T0_MS + ms) for ms in (0, 100, 200, 250)])
    after_ms = first[-1].last_sample_ms
    second = run(FrameBuilder(100, after_ms), [snapshot(T0_MS + ms) for ms in (260, 300, 400)])
    instants = [at for at, _ in samples(first + second)]
    assert instants == [T0_MS + ms for ms in (0, 100, 200, 300, 400)]


def test_a_small_step_back_repeats_no_instant() -> None:
    forward = [snapshot(T0_MS + ms) for ms in range(0, 3000, 100)]
    again = [snapshot(T0_MS + ms) for ms in range(1500, 5000, 100)]
    builder = FrameBuilder(100)
    instants = [at for at, _ in samples(run(builder, forward + again))]
    assert instants == [T0_MS + ms for ms in range(0, 5000, 100)]
    assert builder.steps_back == 0


def test_a_clock_that_had_been_far_ahead_is_followed_back() -> None:
    wrong = [snapshot(T0_MS + BACK_STEP_MS + 10_000 + ms) for ms in range(0, 1500, 100)]
    right = [snapshot(T0_MS + ms) for ms in range(0, 1500, 100)]
    builder = FrameBuilder(100)
    drafts = run(builder, wrong + right)
    assert [at for at, _ in samples(drafts)][-15:] == [T0_MS + ms for ms in range(0, 1500, 100)]
    assert builder.steps_back == 1


def test_a_step_forward_leaves_no_empty_frames() -> None:
    drafts = run(FrameBuilder(100), [snapshot(T0_MS), snapshot(T0_MS + 86_400_000)])
    assert [draft.t0_ms for draft in drafts] == [T0_MS, T0_MS + 86_400_000]


def test_silence_closes_the_frame() -> None:
    builder = FrameBuilder(100)
    builder.add(snapshot(T0_MS + 300))
    assert builder.close_due(T0_MS + 1000) == []
    assert samples(builder.close_due(T0_MS + 2001)) == [(T0_MS + 300, 50.0)]
    assert builder.flush() == []


@pytest.mark.parametrize("interval_ms", [100, 1000])
@given(
    gaps_ms=st.lists(st.integers(0, 3_000) | st.integers(0, 60), min_size=1, max_size=120),
    cuts=st.sets(st.integers(1, 119), max_size=4),
)
def test_every_slot_with_a_snapshot_is_sent_exactly_once(interval_ms: int, gaps_ms: list[int], cuts: set[int]) -> None:
    """Whatever the cadence, and wherever the process is restarted (a slot that was sent is then final)."""
    at_ms = T0_MS
    expected: dict[int, float] = {}
    closed_ms = -1
    drafts: list[FrameDraft] = []
    builder = FrameBuilder(interval_ms)
    for i, gap_ms in enumerate(gaps_ms):
        if i in cuts:
            drafts += builder.flush()
            closed_ms = max(expected)
            builder = FrameBuilder(interval_ms, closed_ms)
        at_ms += gap_ms
        value = 45.0 + i / 100
        slot_ms = at_ms if at_ms % interval_ms == 0 else (at_ms // interval_ms + 1) * interval_ms
        if slot_ms > closed_ms:
            expected[slot_ms] = value
        drafts += builder.add(snapshot(at_ms, value))
    drafts += builder.flush()
    assert samples(drafts) == sorted(expected.items())


@given(steps_ms=st.lists(st.integers(-20_000, 20_000), min_size=1, max_size=200))
def test_no_instant_is_sent_twice_whatever_small_steps_the_clock_makes(steps_ms: list[int]) -> None:
    at_ms, reports = T0_MS, []
    for step_ms in steps_ms:
        at_ms = max(T0_MS - 20_000, min(T0_MS + 20_000, at_ms + step_ms))
        reports.append(snapshot(at_ms))
    instants = [at for at, _ in samples(run(FrameBuilder(100), reports))]
    assert all(a < b for a, b in pairwise(instants))
    first = reports[0].at_ms
    assert instants[0] == -(-first // 100) * 100 or any(r.at_ms < first for r in reports)


def test_a_frame_in_which_a_service_was_armed_once_is_to_be_settled() -> None:
    reports = [
        SnapshotReport(at_ms=T0_MS + ms, frequency_hz=50.0, armed=ms in (1500, 3950)) for ms in range(0, 5000, 50)
    ]
    drafts = run(FrameBuilder(100), reports)
    assert [draft.settles for draft in drafts] == [False, True, False, False, True, False]  # 3950 ms belongs to 4000


def test_a_site_with_chargers_and_loads_sends_them_behind_the_rest() -> None:
    builder = FrameBuilder(100)
    for index in range(10):
        report = SnapshotReport(at_ms=T0_MS + 100 * index, inverter_power_w=500.0)
        if index:  # before that nothing of them was read
            report.ev_power_w, report.ev_session_wh, report.ev_connected = -3_600.0 - index, 20.0, 1.0
            report.flexible_load_power_w = 0.0
        builder.add(report)
    (draft,) = builder.flush()
    site, seq, t0_ms, interval_ms, columns = unpack(draft.pack(slot=9, seq=4))
    assert (site, seq, t0_ms, interval_ms) == (9, 4, T0_MS, 100)
    assert len(columns) == len(POINTS) + len(FLEXIBLE_POINTS)
    assert columns[1] == [500.0] * 10
    assert columns[6] == [None, *(-3_600.0 - index for index in range(1, 10))]
    assert columns[9] == [None, *[1.0] * 9]
