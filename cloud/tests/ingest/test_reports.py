"""Events and acknowledgements from a real broker into the ledger: each once, and only those that can be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from cloud.ingest.reports import ReportWorker
from cloud.ingest.testing import DEADLINE_S, Server, eventually
from cloud.model.records import IntentState, Severity
from cloud.store.ledger import LEDGER_FILE, Ledger
from protos import subjects
from protos.vpp.v1.report_pb2 import Acknowledgement, Event

TOKEN = subjects.partition_token("home-01")


class Reports:
    """A ledger with a site that was asked something, and the site's way to report."""

    def __init__(self, folder: Path, connection: Client) -> None:
        self.ledger = Ledger(folder / LEDGER_FILE)
        self.ledger.add_site("home-01", (), now_ms=1)
        self.ledger.record_intent("home-01", "service", valid_from_ms=1, expires_ms=9, body="{}", now_ms=1)
        self._connection = connection
        self._js = connection.jetstream(timeout=DEADLINE_S)

    async def make_stream(self) -> None:
        await self._js.add_stream(StreamConfig(name=subjects.REPORT_STREAM, subjects=list(subjects.REPORT_SUBJECTS)))

    async def delete_stream(self) -> None:
        await self._js.delete_stream(subjects.REPORT_STREAM)

    async def send(self, *messages: Event | Acknowledgement | bytes, token: str = TOKEN) -> None:
        for message in messages:
            subject = subjects.acknowledgement(token) if isinstance(message, Acknowledgement) else subjects.event(token)
            await self._js.publish(subject, message if isinstance(message, bytes) else message.SerializeToString())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Runs the worker while the block runs."""
        worker = ReportWorker(self._connection, ledger=self.ledger, utc_ms=lambda: 77)
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, DEADLINE_S)

    async def kept(self, sequence: int) -> None:
        """Returns when the ledger has come to this message."""

        def there() -> bool:
            offset = self.ledger.stream_offset(subjects.REPORT_STREAM)
            return offset is not None and offset.last_sequence == sequence

        await eventually(there, f"report {sequence} kept")

    @property
    def told(self) -> list[tuple[str | None, str, Severity, str]]:
        return [(event.site, event.code, event.severity, event.text) for event in self.ledger.events()]


@pytest.fixture
async def reports(tmp_path: Path, connection: Client) -> AsyncIterator[Reports]:
    folder = tmp_path / "data"
    folder.mkdir()
    reports = Reports(folder, connection)
    await reports.make_stream()
    yield reports
    reports.ledger.close()


def event(event_id: str, **fields: object) -> Event:
    values = {"site": "home-01", "at_ms": 5, "severity": Event.SEVERITY_INFO, "code": "service.triggered", "text": "t"}
    return Event(event_id=event_id, **{**values, **fields})  # type: ignore[arg-type]


def ack(event_id: str, state: "Acknowledgement.State", **fields: object) -> Acknowledgement:
    values = {"site": "home-01", "kind": "service", "sequence": 1, "at_ms": 6}
    return Acknowledgement(event_id=event_id, state=state, **{**values, **fields})  # type: ignore[arg-type]


async def test_events_are_kept_once_though_sent_twice(reports: Reports) -> None:
    async with reports.read():
        await reports.send(event("1"), event("1"), event("2", severity=Event.SEVERITY_ALARM, text="a\nb\tc\x1b[31m"))
        await reports.kept(3)
    assert reports.told == [
        ("home-01", "service.triggered", Severity.INFO, "t"),
        ("home-01", "service.triggered", Severity.ALARM, "a b c [31m"),
    ]


async def test_acknowledgements_move_the_intent_on_and_a_refusal_is_told(reports: Reports) -> None:
    async with reports.read():
        await reports.send(ack("0", Acknowledgement.STATE_RECEIVED))
        await reports.kept(1)
        intent = reports.ledger.intent("home-01", "service", 1)
        assert intent is not None
        assert intent.state is IntentState.RECEIVED
        await reports.send(ack("1", Acknowledgement.STATE_ACCEPTED), ack("2", Acknowledgement.STATE_ACTIVE))
        await reports.kept(3)
        intent = reports.ledger.intent("home-01", "service", 1)
        assert intent is not None
        assert (intent.state, intent.updated_ms) == (IntentState.ACTIVE, 6)
        reports.ledger.record_intent("home-01", "service", valid_from_ms=1, expires_ms=9, body="{}", now_ms=1)
        await reports.send(ack("3", Acknowledgement.STATE_REFUSED, sequence=2, reason="signature"))
        await reports.kept(4)
    refused = reports.ledger.intent("home-01", "service", 2)
    assert refused is not None
    assert (refused.state, refused.reason) == (IntentState.REFUSED, "signature")
    assert reports.told == [("home-01", "intent.refused", Severity.WARNING, "refuses service 2: signature")]


@pytest.mark.parametrize("sequence", [9, 2**64 - 1])
async def test_a_site_that_refuses_what_was_never_sent_raises_the_alarm(reports: Reports, sequence: int) -> None:
    refusal = ack("1", Acknowledgement.STATE_REFUSED, sequence=sequence, reason="the signature is wrong")
    again = ack("2", Acknowledgement.STATE_REFUSED, sequence=sequence, reason="the signature is wrong")
    async with reports.read():
        await reports.send(refusal, again)
        await reports.kept(2)
    text = f"refuses service {sequence}, which was never sent: the signature is wrong"
    assert reports.told == [("home-01", "intent.foreign", Severity.ALARM, text)] * 2
    [entry] = [entry for entry in reports.ledger.audit_entries() if entry.action == "site.intent.foreign"]
    assert (entry.actor, entry.subject) == ("site:home-01", "home-01"), "once a minute: its gateway may be stolen"


async def test_what_a_site_refuses_or_is_stopped_by_is_in_the_audit_log(reports: Reports) -> None:
    async with reports.read():
        codes = ["broadcast.refused", "stop.ordered", "guard.limited", "device.lost"]
        await reports.send(*(event(f"{n}", code=code) for n, code in enumerate(codes)))
        await reports.kept(4)
    acts = [entry.action for entry in reports.ledger.audit_entries() if entry.action.startswith("site.")]
    assert acts == ["site.added", "site.broadcast.refused", "site.stop.ordered", "site.guard.limited"]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        pytest.param(b"\xff\xff\xff", "it is no Event", id="no message"),
        pytest.param(event("1", site="home-02"), "names another site: 'home-02'", id="another site"),
        pytest.param(event(""), "event_id has 0 characters", id="no id"),
        pytest.param(event("x" * 200), "event_id has 200 characters", id="endless id"),
        pytest.param(event("1\0"), "event_id is no word", id="a zero in the id"),
        pytest.param(ack("1", Acknowledgement.STATE_REFUSED, kind="\0"), "kind is no word", id="a zero in the kind"),
        pytest.param(event("1", at_ms=2**63), "no instant", id="beyond all time"),
        pytest.param(ack("1", Acknowledgement.STATE_UNSPECIFIED), "state 0 is unknown", id="no state"),
        pytest.param(ack("1", Acknowledgement.STATE_ACTIVE, sequence=9), "never sent: service 9", id="stranger intent"),
        pytest.param(ack("1", Acknowledgement.STATE_ACTIVE, sequence=2**64 - 1), "none of ours", id="huge sequence"),
    ],
)
async def test_what_cannot_be_is_refused_and_told(
    reports: Reports, message: Event | Acknowledgement | bytes, why: str
) -> None:
    async with reports.read():
        await reports.send(message, event("good"))
        await reports.kept(2)
    (_, code, severity, text), good = reports.told
    assert (code, severity) == ("report.refused", Severity.WARNING)
    assert why in text
    assert good[1] == "service.triggered"
    intent = reports.ledger.intent("home-01", "service", 1)
    assert intent is not None
    assert intent.state is IntentState.ISSUED


async def test_an_unknown_site_and_a_foreign_subject_are_refused(reports: Reports) -> None:
    async with reports.read():
        await reports.send(event("1", site="stranger"), token="1.stranger")
        await reports.send(event("2"), token="63.home-01")  # not its partition
        await reports.kept(2)
    assert [code for _, code, _, _ in reports.told] == ["report.refused", "report.refused"]


async def test_reading_goes_on_where_it_was_left(reports: Reports, server: Server) -> None:
    async with reports.read():
        await reports.send(event("1"))
        await reports.kept(1)
    await reports.send(event("2"))
    async with reports.read():
        await reports.kept(2)
        server.kill()
        await server.start()
        await reports.send(event("3"))
        await reports.kept(3)
    assert len(reports.told) == 3


async def test_a_stream_made_anew_is_an_alarm_and_is_read_from_its_beginning(reports: Reports) -> None:
    async with reports.read():
        await reports.send(event("1"), event("2"))
        await reports.kept(2)
    await reports.delete_stream()
    await reports.make_stream()
    async with reports.read():
        await reports.send(event("2"), event("3"))
        await eventually(lambda: len(reports.told) == 4, "the third event and the alarm")
    assert [code for _, code, _, _ in reports.told].count("stream.anew") == 1
    assert reports.told[2][2] is Severity.ALARM


async def test_merged_frames_are_kept_by_site_and_once(reports: Reports) -> None:
    told = event("1", code="telemetry.thinned", thinned=[1, 9, 1, 4])
    async with reports.read():
        await reports.send(told, told, event("2", thinned=[21, 3]))
        await reports.kept(3)
    found = reports.ledger.thinned_after(0)
    assert [(slot, runs) for _, slot, runs in found] == [(0, [(1, 9), (11, 14)]), (0, [(21, 23)])]
    assert reports.ledger.thinned_after(found[0][0]) == found[1:]
    assert reports.ledger.thinned_by_slot() == {0: 16}


@pytest.mark.parametrize(
    "thinned",
    [
        pytest.param([1, 2, 3], id="half a pair"),
        pytest.param([1, 0], id="a run of none"),
        pytest.param([0, 1], id="no frame has the number 0"),
        pytest.param([4_294_967_290, 7], id="beyond every number"),
        pytest.param([1, 1] * 4097, id="too many"),
    ],
)
async def test_merged_frames_that_cannot_be_are_refused(reports: Reports, thinned: list[int]) -> None:
    async with reports.read():
        await reports.send(event("1", thinned=thinned))
        await reports.kept(1)
    assert [code for _, code, _, _ in reports.told] == ["report.refused"]
    assert reports.ledger.thinned_by_slot() == {}
