"""The journal: order, book-keeping, room, and sequence numbers that never come back."""

import multiprocessing
import os
import resource
import signal
import sqlite3
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from edge_agent.model.clock import SystemClock
from edge_agent.sync import database
from edge_agent.sync.journal import RESERVE, Journal, JournalError, JournalStatus, ReportKind, read_status
from edge_agent.sync.state import State
from protos.settings import SettingsError
from protos.vpp.v1.report_pb2 import Event


def body(seq: int) -> bytes:
    return seq.to_bytes(4, "little") * 40


def opened(folder: Path) -> Journal:
    return Journal(folder, "home-01", State(folder), SystemClock())


def reboot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Makes the journal believe that the machine was started anew."""
    path = tmp_path / "boot_id"
    path.write_text(name)
    monkeypatch.setattr(database, "BOOT_ID_FILE", path)


def test_frames_wait_in_order_until_acknowledged(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert [journal.append_frame(body, 1) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert journal.oldest_frames(3) == [(seq, body(seq)) for seq in (1, 2, 3)]
    assert journal.oldest_frames(3)[0][0] == 1
    journal.frames_acknowledged(1, 3)
    assert [seq for seq, _ in journal.oldest_frames(10)] == [4, 5]
    sent = sum(len(body(seq)) for seq in (1, 2, 3))
    status = read_status(tmp_path)
    assert status.used_bytes >= 2 * len(body(4))
    expected = JournalStatus(frames_created=5, frames_acknowledged=3, bytes_acknowledged=sent, frames_waiting=2)
    assert replace(status, used_bytes=0) == expected
    journal.close()


def test_status_before_the_first_start_is_all_zero(tmp_path: Path) -> None:
    assert read_status(tmp_path) == JournalStatus()


def test_sequence_goes_on_after_a_full_drain_and_an_orderly_restart(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.start_at(100)
    last = [journal.append_frame(body, 1) for _ in range(3)][-1]
    journal.frames_acknowledged(100, last)
    journal.close()
    again = opened(tmp_path)
    again.start_at(100)
    assert again.append_frame(body, 1) == 103
    again.close()


def test_after_a_power_cut_no_reserved_number_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reboot(monkeypatch, tmp_path, "before")
    journal = opened(tmp_path)
    used = [journal.append_frame(body, 1) for _ in range(3)]
    # Not closed, and another boot: what SQLite had not synced is gone, the last frame with it.
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("DELETE FROM frame WHERE seq = 3")
        db.execute("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'frame'")
    reboot(monkeypatch, tmp_path, "after")
    fresh = opened(tmp_path).append_frame(body, 1)
    assert fresh > used[-1]
    assert fresh <= used[0] + RESERVE


def _write_for_ever(folder: Path, said: Connection) -> None:
    journal = opened(folder)
    while True:
        said.send(journal.append_frame(body, 1))


def test_a_killed_writer_loses_no_frame_and_repeats_no_number(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told: list[int] = []
    for _ in range(2):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_write_for_ever, args=(tmp_path, theirs), daemon=True)
        child.start()
        theirs.close()
        for _ in range(50):
            assert ours.poll(30)
            told.append(ours.recv())
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(30)
        while ours.poll():
            try:
                told.append(ours.recv())
            except EOFError:
                break
    journal = opened(tmp_path)
    kept = [seq for seq, _ in journal.oldest_frames(100_000)]
    fresh = journal.append_frame(body, 1)
    journal.close()
    assert told == sorted(set(told))
    assert set(told) <= set(kept)
    assert kept == list(range(1, len(kept) + 1))
    assert fresh == kept[-1] + 1


def test_a_corrupt_journal_is_kept_aside_and_the_sequence_goes_on(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    last = [journal.append_frame(body, 1) for _ in range(10)][-1]
    journal.close()
    (tmp_path / "journal.db").write_bytes(b"not a database at all" * 100)
    again = opened(tmp_path)
    assert again.append_frame(body, 1) > last
    report = again.oldest_report()
    assert report is not None
    event = Event.FromString(report.body)
    assert (event.code, event.severity, event.site) == ("journal.corrupt", Event.SEVERITY_ALARM, "home-01")
    [aside] = [path for path in tmp_path.iterdir() if ".corrupt-" in path.name]
    assert aside.read_bytes().startswith(b"not a database")
    assert aside.name in event.text
    again.close()


def test_a_journal_that_becomes_corrupt_while_open_is_replaced(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    last = [journal.append_frame(body, 1) for _ in range(200)][-1]
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "journal.db"
    damaged = bytearray(path.read_bytes())
    damaged[1024:] = b"\xff" * (len(damaged) - 1024)  # every page but the first
    path.write_bytes(damaged)
    # Pages that SQLite had cached are still right: it meets the damage sooner or later.
    numbers = [journal.append_frame(body, 1) for _ in range(50)]
    rows = journal.oldest_frames(1000)
    fresh = journal.append_frame(body, 1)
    assert numbers == sorted(set(numbers))
    assert numbers[0] > last
    assert fresh > numbers[-1]
    assert all(payload == body(seq) for seq, payload in rows)
    assert any(".corrupt-" in path.name for path in tmp_path.iterdir())
    journal.close()


def test_a_second_copy_of_a_report_is_not_kept(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert journal.append_report(ReportKind.EVENT, "e1", b"one") is True
    assert journal.append_report(ReportKind.EVENT, "e1", b"one") is False
    assert read_status(tmp_path).events_waiting == 1
    journal.close()


def test_a_journal_of_a_newer_agent_is_refused_in_one_line(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(SettingsError, match=r"journal\.db: was written by a newer agent"):
        opened(tmp_path)


def _fill_the_disk(folder: Path, said: Connection) -> None:
    """A file size limit stands for a full disk: SQLite meets the same refusal to write."""
    journal = opened(folder)
    for _ in range(20):
        journal.append_frame(body, 1)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, unlimited[1]))
    failures = 0
    for _ in range(5):
        try:
            journal.append_frame(body, 1)
        except JournalError:
            failures += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    said.send((failures, journal.append_frame(body, 1)))
    journal.close()


def test_a_full_disk_costs_telemetry_by_number_and_nothing_else(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_fill_the_disk, args=(tmp_path, theirs), daemon=True)
    child.start()
    theirs.close()
    assert ours.poll(30)
    assert ours.recv() == (5, 26)
    child.join(30)
    kept = [seq for seq, _ in opened(tmp_path).oldest_frames(100)]
    assert kept == [*range(1, 21), 26]
    status = read_status(tmp_path)
    assert (status.frames_created, status.frames_waiting, status.frames_dropped) == (26, 21, 5)
