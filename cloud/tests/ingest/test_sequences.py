"""Frame numbers against a plain set of what was seen."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.ingest.sequences import Sequences
from cloud.model.telemetry import FIRST_SEQ

SLOTS = st.integers(0, 3)
NUMBERS = st.integers(FIRST_SEQ, 30)
RUNS = st.lists(st.tuples(SLOTS, NUMBERS, st.integers(0, 6)), max_size=5)
BATCHES = st.lists(st.lists(st.tuples(SLOTS, st.one_of(NUMBERS, st.none())), max_size=12), max_size=6)


@given(RUNS, BATCHES)
@settings(deadline=None)
def test_each_frame_is_admitted_once_and_what_is_missing_is_counted(
    runs: list[tuple[int, int, int]], batches: list[list[tuple[int, int | None]]]
) -> None:
    sequences = Sequences()
    seen: dict[int, set[int]] = {slot: set() for slot in range(4)}
    sequences.restore(
        np.array([(slot, first, first + more) for slot, first, more in runs], dtype=np.int64).reshape(-1, 3)
    )
    for slot, first, more in runs:
        seen[slot].update(range(first, first + more + 1))
    for batch in batches:
        again = Sequences()
        again.restore(sequences.runs())
        sequences = again  # as after a restart
        slots, numbers, expected = [], [], []
        for slot, number in batch:
            number = max(seen[slot], default=0) + 1 if number is None else number  # None: the next one, as usual
            slots.append(slot)
            numbers.append(number)
            expected.append(number not in seen[slot])
            seen[slot].add(number)
        admitted = sequences.admit(np.array(slots, dtype=np.int64), np.array(numbers, dtype=np.int64))
        assert admitted.tolist() == expected
        for slot in set(slots):
            missing = set(range(FIRST_SEQ, max(seen[slot]) + 1)) - seen[slot]
            assert sequences.missing(np.array([slot])).tolist() == [len(missing)]


def test_many_regular_frames_at_once() -> None:
    sequences = Sequences()
    slot = np.tile(np.arange(1000), 3)
    seq = np.repeat([1, 2, 3], 1000)
    assert sequences.admit(slot, seq).all()
    assert not sequences.admit(slot, seq).any()
    assert sequences.missing(np.arange(1000)).sum() == 0
