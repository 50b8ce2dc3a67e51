"""Thinned telemetry is what 1 s telemetry would have been."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sync.frames import FrameBuilder
from edge_agent.sync.thinning import thin
from protos import frame
from protos.vpp.v1.local_pb2 import SnapshotReport

T0_MS = 1_700_000_000_000


def frames_of(interval_ms: int, snapshots: list[SnapshotReport]) -> list[bytes]:
    builder = FrameBuilder(interval_ms)
    drafts = [draft for snapshot in snapshots for draft in builder.add(snapshot)] + builder.flush()
    return [draft.pack(7, seq) for seq, draft in enumerate(drafts, start=1)]


def samples(bodies: list[bytes]) -> dict[tuple[int, str], float]:
    """Every value that is no hole, by instant and point."""
    found: dict[tuple[int, str], float] = {}
    for body in bodies:
        _, _, t0_ms, interval_ms, columns = frame.unpack(body)
        for (name, _), column in zip(frame.POINTS, columns, strict=True):
            found |= {(t0_ms + i * interval_ms, name): value for i, value in enumerate(column) if value is not None}
    return found


@given(
    ticks=st.lists(st.integers(0, 80 * 20), min_size=1, max_size=200, unique=True).map(sorted),
    silent=st.sets(st.integers(0, 80), max_size=20),
)
def test_thinned_frames_hold_what_frames_of_one_second_would(ticks: list[int], silent: set[int]) -> None:
    """At 20 Hz, with seconds of silence. In the second in which a run begins, 100 ms samples know more."""
    at = [50 * tick for tick in ticks if tick // 20 not in silent]
    snapshots = [SnapshotReport(at_ms=T0_MS + ms, frequency_hz=50 + ms / 1e5, grid_power_w=float(ms)) for ms in at]
    fine = frames_of(100, snapshots)
    thinned = list(thin((seq, body) for seq, body in enumerate(fine, start=1)))
    expected = samples(frames_of(1000, snapshots))
    found = samples([one.body for one in thinned])
    # A frame of 1 s samples begins 900 ms before one of 100 ms samples: the last of a run may fall into the next one.
    missing = {t_ms for t_ms, _ in expected.keys() - found.keys()}
    assert all(t_ms % 10_000 == T0_MS % 10_000 for t_ms in missing)
    assert {key: value for key, value in found.items() if key[0] % 10_000 != T0_MS % 10_000} == {
        key: value for key, value in expected.items() if key[0] % 10_000 != T0_MS % 10_000
    }
    assert sorted(seq for one in thinned for seq in one.replaced) == list(range(1, len(fine) + 1))
    assert [one.seq for one in thinned] == [one.replaced[-1] for one in thinned]


def test_frames_of_other_intervals_are_passed_over() -> None:
    body = frame.pack(7, 1, T0_MS, 1000, [[1.0] * 10] * 6)
    assert list(thin([(1, body)])) == []


def test_frames_with_and_without_chargers_are_joined() -> None:
    plain, more = [[1.0] * 10] * 6, [[-3_600.0] * 10, [0.0] * 10, [5.0] * 10, [1.0] * 10]
    fine = [
        (seq, frame.pack(7, seq, T0_MS + 1000 * (seq - 1), 100, [*plain, *more] if seq > 3 else plain))
        for seq in range(1, 11)
    ]
    (thinned,) = thin(fine)
    columns = frame.unpack(thinned.body)[4]
    assert columns[0] == [1.0] * 10
    # The second that ends with a frame's beginning is of that frame, too.
    assert columns[6] == [None] * 3 + [-3_600.0] * 7
