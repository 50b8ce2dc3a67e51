"""A journal that runs out of room: what gives way first, what is told, and that it never outgrows its limit."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from edge_agent.model.clock import SystemClock
from edge_agent.sync.journal import Journal, ReportKind, read_status
from edge_agent.sync.room import BESIDE_BYTES
from edge_agent.sync.state import State
from protos import frame
from protos.vpp.v1.report_pb2 import Event

T0_MS = 1_700_000_000_000  # a whole multiple of 10 s
LIMIT = 240_000  # a quarter of it for the file: about 300 frames


def opened(folder: Path, max_bytes: int = LIMIT) -> Journal:
    return Journal(folder, "home-01", State(folder), SystemClock(), max_bytes=max_bytes)


def second(seq: int) -> bytes:
    """A frame of 100 ms samples; each value says when it was measured, in tenths of seconds since T0_MS."""
    tenths = [float(10 * (seq - 1) + index) for index in range(10)]
    return frame.pack(7, seq, T0_MS + 1000 * (seq - 1), 100, [tenths] * 6)


def write(journal: Journal, frames: int, *, settles: bool = False) -> None:
    for _ in range(frames):
        journal.append_frame(second, T0_MS + 1000 * journal.next_seq, settles=settles)


def told(journal: Journal) -> list[str]:
    codes = []
    while (report := journal.oldest_report()) is not None:
        codes.append(Event.FromString(report.body).code if report.kind is ReportKind.EVENT else report.event_id)
        journal.report_acknowledged(report)
    return codes


def kept(journal: Journal) -> dict[int, list[tuple[int, float]]]:
    """By interval: (UTC, value) of each sample of the first point that waits, oldest first."""
    samples: dict[int, list[tuple[int, float]]] = {100: [], 1000: []}
    for seq, body in journal.oldest_frames(100_000):
        _, found, t0_ms, interval_ms, columns = frame.unpack(body)
        assert found == seq
        samples[interval_ms] += [
            (t0_ms + i * interval_ms, value) for i, value in enumerate(columns[0]) if value is not None
        ]
    return samples


def file_bytes(folder: Path) -> int:
    return (folder / "journal.db").stat().st_size


def test_the_oldest_is_thinned_to_a_sample_a_second_and_said_once(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    write(journal, 600)
    status, samples = read_status(tmp_path), kept(journal)
    assert status.frames_dropped == 0
    assert status.frames_created == 600 == status.frames_thinned + status.frames_waiting
    # Every second is there, as it was measured at that instant, and the newest of them ten times.
    assert [(t_ms - T0_MS, value) for t_ms, value in samples[1000]] == [
        (1000 * second, 10.0 * second) for second in range(len(samples[1000]))
    ]
    assert [value for _, value in samples[100]] == [float(i) for i in range(10 * len(samples[1000]), 6000)]
    assert len(samples[100]) > 500
    assert told(journal) == ["journal.thinned"]
    journal.close()


def test_when_all_is_thinned_the_oldest_is_dropped_and_the_file_stays_in_its_limit(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append_report(ReportKind.ACKNOWLEDGEMENT, "a1", b"ack")
    write(journal, 6000)
    status, samples = read_status(tmp_path), kept(journal)
    assert file_bytes(tmp_path) <= LIMIT
    assert status.frames_dropped > 0
    assert status.frames_created == 6000 == status.frames_thinned + status.frames_waiting + status.frames_dropped
    seconds = [value / 10 for _, value in samples[1000]] + [value / 10 for _, value in samples[100][::10]]
    assert seconds == [float(i) for i in range(int(seconds[0]), 6000)]  # the newest, without a hole
    assert told(journal) == ["a1", "journal.thinned", "journal.full"]
    journal.close()


def test_settlement_telemetry_is_kept_whole_while_there_is_other_to_give_up(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    write(journal, 60)
    write(journal, 120, settles=True)
    write(journal, 4000)
    fine = {t_ms for t_ms, _ in kept(journal)[100]}
    assert read_status(tmp_path).frames_dropped > 60 // 10  # all that was older is gone by now, thinned as it was
    assert fine.issuperset(range(T0_MS + 60_000, T0_MS + 180_000, 100))
    journal.close()


def test_settlement_telemetry_gives_way_last_and_then_by_the_same_rule(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    write(journal, 6000, settles=True)
    samples = kept(journal)
    assert file_bytes(tmp_path) <= LIMIT
    assert samples[1000]
    assert samples[100][-1][0] == T0_MS + 6_000_000 - 100
    journal.close()


def test_what_is_being_sent_stays_as_it_is(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    write(journal, 50)
    sending = journal.oldest_frames(25)
    write(journal, 6000)
    assert journal.oldest_frames(25) == sending
    journal.frames_acknowledged(1, 25)
    status = read_status(tmp_path)
    assert (status.frames_created, status.frames_acknowledged) == (6050, 25)
    assert status.frames_created == 25 + status.frames_waiting + status.frames_thinned + status.frames_dropped
    journal.close()


def test_events_give_way_before_acknowledgements_and_after_telemetry(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    write(journal, 50)
    for i in range(120):
        journal.append_report(ReportKind.ACKNOWLEDGEMENT, f"a{i}", b"x" * 200)
    for i in range(600):
        journal.append_report(ReportKind.EVENT, f"e{i}", b"x" * 200)
    with sqlite3.connect(tmp_path / "journal.db") as db:
        left = [row[0] for row in db.execute("SELECT event_id FROM report ORDER BY id")]
    status = read_status(tmp_path)
    assert status.frames_waiting <= 10  # the newest ten seconds
    assert [name for name in left if name.startswith("a")] == [f"a{i}" for i in range(120)]
    assert status.events_dropped > 0
    journal.close()


def test_a_journal_made_by_an_earlier_agent_is_thinned_as_well(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("CREATE TABLE frame (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)")
        db.execute(
            "CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, "
            "event_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)"
        )
        db.execute("CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
        db.executemany("INSERT INTO frame VALUES (?, ?)", ((seq, second(seq)) for seq in range(1, 401)))
        db.execute("INSERT INTO fact VALUES ('boot', 'closed')")
        db.execute("PRAGMA user_version=1")
    db.close()
    journal = opened(tmp_path)
    write(journal, 1)
    assert read_status(tmp_path).frames_thinned > 0
    assert journal.oldest_frames(1000)[-1] == (401, second(401))
    journal.close()


@pytest.mark.parametrize("max_mb", [16, 512])
def test_the_limit_leaves_room_for_what_stands_beside_the_file(max_mb: int) -> None:
    assert max_mb * 1_000_000 - BESIDE_BYTES > max_mb * 1_000_000 // 4


def test_frames_of_one_second_are_dropped_without_being_thinned(tmp_path: Path) -> None:
    def ten_seconds(seq: int) -> bytes:
        return frame.pack(7, seq, T0_MS + 10_000 * seq, 1000, [[1.0] * 10] * 6)

    journal = opened(tmp_path)
    for _ in range(1000):
        journal.append_frame(ten_seconds, T0_MS)
    status = read_status(tmp_path)
    assert status.frames_thinned == 0
    assert status.frames_dropped == 1000 - status.frames_waiting > 0
    assert _numbers(journal.oldest_frames(1000)) == list(range(1001 - status.frames_waiting, 1001))
    journal.close()


def _numbers(rows: Iterable[tuple[int, bytes]]) -> list[int]:
    return [seq for seq, _ in rows]


def sent(journal: Journal, batch: int = 50) -> set[int]:
    """The numbers of all frames that wait, each acknowledged."""
    numbers: set[int] = set()
    while rows := journal.oldest_frames(batch):
        numbers.update(seq for seq, _ in rows)
        journal.frames_acknowledged(rows[0][0], rows[-1][0])
    return numbers


def named_as_thinned(journal: Journal) -> list[int]:
    """What the events that wait say will never come; they are taken out."""
    numbers: list[int] = []
    while (report := journal.oldest_report()) is not None:
        told, end = Event.FromString(report.body).thinned, -1
        for skipped, length in zip(told[::2], told[1::2], strict=True):
            first = end + 1 + skipped
            end = first + length - 1
            numbers += range(first, end + 1)
        journal.report_acknowledged(report)
    return numbers


def test_once_the_rest_is_sent_every_merged_frame_is_named(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    write(journal, 600)
    journal.close()
    journal = opened(tmp_path)  # it is not forgotten over a restart
    arrived = sent(journal)
    assert sorted(named_as_thinned(journal)) == sorted(set(range(1, 601)) - arrived)
    write(journal, 30)
    assert sent(journal) == set(range(601, 631))
    assert named_as_thinned(journal) == []
    journal.close()


def test_what_was_merged_into_a_frame_that_is_dropped_is_not_named(tmp_path: Path) -> None:
    """It is lost, and must be missed."""
    journal = opened(tmp_path)
    write(journal, 6000)
    arrived, status = sent(journal), read_status(tmp_path)
    assert status.frames_dropped > 0
    named = named_as_thinned(journal)
    assert len(named) == len(set(named))
    lost = set(range(1, 6001)) - arrived - set(named)
    assert not arrived.intersection(named)
    assert max(lost) < min(named)  # the oldest went
    assert len(lost) >= status.frames_dropped
    journal.close()
