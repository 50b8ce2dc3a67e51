"""A journal whose power is cut at any byte of a write, and a writer killed while it thins and drops."""

import multiprocessing
import os
import random
import shutil
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.model.clock import SystemClock
from edge_agent.sync import database
from edge_agent.sync.journal import RESERVE, Journal, ReportKind, read_status
from edge_agent.sync.state import State
from protos import frame

T0_MS = 1_700_000_000_000


def opened(folder: Path, max_bytes: int = 512_000_000) -> Journal:
    return Journal(folder, "home-01", State(folder), SystemClock(), max_bytes=max_bytes)


def body(seq: int) -> bytes:
    return frame.pack(7, seq, T0_MS + 1000 * seq, 100, [[float(seq)] * 10] * 6)


@dataclass(frozen=True)
class Cut:
    """The disk at the moment of a power cut, and what had been promised by then."""

    folder: Path
    synced_bytes: int  # of the write-ahead log, by the last commit that waited for the disk
    reports: list[str]  # that such a commit holds
    last_seq: int  # of the last frame that may have left the site


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> list[Cut]:
    """The same journal after each of its steps: frames, reports, acknowledged ones."""
    folder = tmp_path_factory.mktemp("journal")
    draw, taken, reports, synced = random.Random(20261123), [], [], 0
    with pytest.MonkeyPatch.context() as patch:
        boot = folder / "boot_id"
        boot.write_text("before the power cut")
        patch.setattr(database, "BOOT_ID_FILE", boot)
        journal = opened(folder)
        wal, sent = folder / "journal.db-wal", 0
        for step in range(40):
            match draw.choice(["frame", "frame", "report", "acknowledge"]):
                case "frame":
                    journal.append_frame(body, T0_MS)
                case "report":
                    reports.append(f"e{step}")
                    journal.append_report(ReportKind.EVENT, reports[-1], b"event")
                    synced = wal.stat().st_size
                case "acknowledge":
                    for seq, _ in journal.oldest_frames(1):
                        sent = seq
                        journal.frames_acknowledged(seq, seq)
            copy = folder / f"step-{step}"
            copy.mkdir()
            for name in ("journal.db", "journal.db-wal", "state.json"):
                if (folder / name).exists():
                    shutil.copy(folder / name, copy / name)
            taken.append(Cut(copy, synced, list(reports), journal.next_seq - 1))
        assert sent > 0
        journal.close()
    return taken


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_power_cut_at_any_byte_leaves_a_sound_journal(
    cuts: list[Cut], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cut = data.draw(st.sampled_from(cuts))
    folder = tmp_path_factory.mktemp("cut")
    shutil.copytree(cut.folder, folder, dirs_exist_ok=True)
    wal = folder / "journal.db-wal"
    kept = data.draw(st.integers(cut.synced_bytes, wal.stat().st_size), label="bytes of the log on the disk")
    torn = data.draw(st.binary(max_size=40), label="what a half-written sector holds")
    wal.write_bytes(wal.read_bytes()[:kept] + torn)

    journal = opened(folder)
    frames = journal.oldest_frames(1000)
    fresh = journal.append_frame(body, T0_MS)
    found = []
    while (report := journal.oldest_report()) is not None:
        found.append(report.event_id)
        journal.report_acknowledged(report)
    journal.close()
    status = read_status(folder)
    shutil.rmtree(folder)

    assert [payload for _, payload in frames] == [body(seq) for seq, _ in frames]
    assert [seq for seq, _ in frames] == list(range(frames[0][0], frames[-1][0] + 1)) if frames else True
    assert found[: len(cut.reports)] == cut.reports  # synced: never lost; and none but these
    assert len(found) == len(cut.reports)
    assert cut.last_seq < fresh <= cut.last_seq + RESERVE + 1  # no number comes back
    assert status.frames_waiting == len(frames) + 1
    assert not list(folder.parent.glob(f"{folder.name}/*.corrupt-*"))


def _write_in_little_room(folder: Path, said: Connection) -> None:
    journal = opened(folder, max_bytes=240_000)
    while True:
        journal.append_frame(body, T0_MS, settles=journal.next_seq % 500 > 400)
        for seq, _ in journal.oldest_frames(2) if journal.next_seq % 7 == 0 else ():
            journal.frames_acknowledged(seq, seq)
        said.send(journal.next_seq - 1)


def test_killed_while_it_makes_room_it_still_accounts_for_every_frame(tmp_path: Path) -> None:
    context, draw = multiprocessing.get_context("spawn"), random.Random(7)
    last = 0
    for _ in range(3):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_write_in_little_room, args=(tmp_path, theirs), daemon=True)
        child.start()
        theirs.close()
        for _ in range(draw.randint(400, 700)):
            assert ours.poll(30)
            last = ours.recv()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(30)
        while ours.poll():
            try:
                last = ours.recv()
            except EOFError:
                break
        status = read_status(tmp_path)
        assert last <= status.frames_created <= last + 1
        assert status.frames_thinned > 0
        journal = opened(tmp_path, max_bytes=240_000)
        rows = journal.oldest_frames(10_000)
        assert journal.next_seq == status.frames_created + 1
        journal.close()
        assert len(rows) == status.frames_waiting
        assert all(frame.unpack(payload)[1] == seq for seq, payload in rows)
