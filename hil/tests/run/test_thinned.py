"""A journal out of room, from the gateway's disk to the coordinator's book-keeping: nobody misses what was merged."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import nats
from nats.js.api import StreamConfig

from cloud.fleet.state import FleetState
from cloud.ingest.reports import ReportWorker
from cloud.ingest.testing import DEADLINE_S, Publisher, Server, eventually
from cloud.ingest.worker import IngestWorker
from cloud.store.history import History
from cloud.store.ledger import LEDGER_FILE, Ledger
from edge_agent.model.clock import SystemClock
from edge_agent.sync.journal import Journal, ReportKind, read_status
from edge_agent.sync.state import State
from protos import frame, subjects

SITE = "home-01"
T0_MS = 1_790_000_000_000  # a whole multiple of 10 s
LIMIT = 240_000  # of the journal, a quarter of it for its file: about 300 frames


def a_second(seq: int) -> bytes:
    return frame.pack(0, seq, T0_MS + 1000 * (seq - 1), 100, [[1.0] * frame.SAMPLES] * 6)


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_frames_merged_in_an_outage_are_thinned_in_the_book_keeping_and_not_missing(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    journal = Journal(folder, SITE, State(folder), SystemClock(), max_bytes=LIMIT)
    for _ in range(600):
        journal.append_frame(a_second, T0_MS + 1000 * journal.next_seq)
    server, history, fleet = Server(tmp_path / "broker"), History(tmp_path / "history"), FleetState()
    await server.start()
    connection = await nats.connect(server.url)
    try:
        with Ledger(tmp_path / LEDGER_FILE) as ledger:
            ledger.add_site(SITE, (), now_ms=1)
            site, js = Publisher(connection, "TEL_0"), connection.jetstream(timeout=DEADLINE_S)
            await site.make_stream()
            await js.add_stream(StreamConfig(name=subjects.REPORT_STREAM, subjects=list(subjects.REPORT_SUBJECTS)))
            ingest = IngestWorker(
                connection, "TEL_0", 0, history=history, fleet=fleet, ledger=ledger, utc_ms=utc_ms, flush_s=0.02
            )
            reports = ReportWorker(connection, ledger=ledger, utc_ms=utc_ms)
            work = [asyncio.create_task(ingest.run()), asyncio.create_task(reports.run())]
            while rows := journal.oldest_frames(100):
                await site.send(SITE, frame.batch([body for _, body in rows]))
                journal.frames_acknowledged(rows[0][0], rows[-1][0])
            gone = read_status(folder).frames_thinned
            assert gone > 0
            await eventually(lambda: int(fleet.frames.sum()) == 600 - gone, "all that was kept has arrived")
            assert int(fleet.gaps[0]) == gone
            while (report := journal.oldest_report()) is not None:
                assert report.kind is ReportKind.EVENT
                await js.publish(subjects.event(subjects.partition_token(SITE)), report.body)
                journal.report_acknowledged(report)
            await eventually(lambda: int(fleet.gaps[0]) == 0, "nothing is missed")
            for task in work:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait_for(task, DEADLINE_S)
            count = history.counts(ledger.thinned_by_slot())[0]
            assert (count.distinct, count.missing, count.thinned, count.duplicate) == (600 - gone, 0, gone, 0)
            assert history.counts()[0].missing == gone  # by the files alone they are
    finally:
        await connection.close()
        server.kill()
        journal.close()
