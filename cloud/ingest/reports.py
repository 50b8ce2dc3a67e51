"""Events and acknowledgements of the sites into the ledger, each once, together with how far their stream was read."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from nats.aio.client import Client

from cloud.ingest.reader import Arrival, StreamReader
from cloud.model.records import EventRecord, IntentState, Severity, StreamOffset, ThinnedFrames
from cloud.model.telemetry import FIRST_SEQ
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import report_pb2

log = logging.getLogger(__name__)

MOST_CHARACTERS: Final = {"event_id": 128, "code": 64, "text": 500, "reason": 500}

_SEVERITY: Final = {
    report_pb2.Event.SEVERITY_UNSPECIFIED: Severity.INFO,
    report_pb2.Event.SEVERITY_INFO: Severity.INFO,
    report_pb2.Event.SEVERITY_WARNING: Severity.WARNING,
    report_pb2.Event.SEVERITY_ALARM: Severity.ALARM,
}
_STATE: Final = {
    report_pb2.Acknowledgement.STATE_RECEIVED: IntentState.RECEIVED,
    report_pb2.Acknowledgement.STATE_ACCEPTED: IntentState.ACCEPTED,
    report_pb2.Acknowledgement.STATE_REFUSED: IntentState.REFUSED,
    report_pb2.Acknowledgement.STATE_ACTIVE: IntentState.ACTIVE,
    report_pb2.Acknowledgement.STATE_EXPIRED: IntentState.EXPIRED,
    report_pb2.Acknowledgement.STATE_RELEASED: IntentState.RELEASED,
}
# What a site refused, or was stopped by, is in the audit log as well.
_AUDITED: Final = (
    "broadcast.refused",
    "command_key.refused",
    "guard.limited",
    "intent.foreign",
    "stop.ordered",
    "stop.lifted",
)
_FRAMES: Final = 1 << 32  # more than a frame's number can be
_MOST_RUNS: Final = 4096
_SEQUENCES: Final = 1 << 63  # more than the ledger ever gives
_AUDITED_AGAIN_MS: Final = 60_000  # of a site and code: a stolen gateway shall not fill the log

Report = TypeVar("Report", report_pb2.Event, report_pb2.Acknowledgement)


class _Bad(Exception):
    """A report that cannot be taken; the text says why."""


class ReportWorker:
    """Reads the stream of reports for ever. utc_ms: the wall clock."""

    def __init__(self, connection: Client, *, ledger: Ledger, utc_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._sites: set[str] = set()
        self._audited_ms: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        """Reads until cancelled. Raises StreamClosed."""
        known = await asyncio.to_thread(self._ledger.stream_offset, subjects.REPORT_STREAM)
        reader = StreamReader(
            self._connection,
            subjects.REPORT_STREAM,
            created_ns=known.created_ns if known else 0,
            last_sequence=known.last_sequence if known else 0,
        )
        async with aclosing(reader.arrivals()) as arrivals:
            async for arrival in arrivals:
                if len(arrival) or arrival.anew or arrival.expired:
                    keeping = asyncio.create_task(asyncio.to_thread(self.keep, arrival))
                    try:
                        await asyncio.shield(keeping)
                    except asyncio.CancelledError:
                        await asyncio.wait({keeping})  # the ledger is not closed in the middle of a transaction
                        raise

    def keep(self, arrival: Arrival) -> None:
        """All of the arrival and the new offset in one transaction: after a crash both are there, or neither."""
        with self._ledger.transaction():
            if arrival.anew:
                self._tell("stream.anew", "was made anew or set back: reports it still held are lost", arrival)
            if arrival.expired:
                self._tell("stream.expired", f"let go {arrival.expired} reports before they were read", arrival)
            for sequence, subject, data in zip(arrival.sequences, arrival.names(), arrival.data, strict=True):
                try:
                    self._keep_one(subject, data)
                except _Bad as bad:
                    self._refuse(sequence, subject, str(bad), arrival)
            if len(arrival):
                last = arrival.sequences[-1]
                self._ledger.set_stream_offset(
                    StreamOffset(stream=subjects.REPORT_STREAM, created_ns=arrival.created_ns, last_sequence=last)
                )

    def _keep_one(self, subject: str, data: bytes) -> None:
        site = subjects.site_of(subject)
        if site not in self._sites:
            self._sites = {known.site for known in self._ledger.sites()}
            if site not in self._sites:
                raise _Bad("the site is unknown")
        if subject == subjects.event(subjects.partition_token(site)):
            self._keep_event(site, data)
        elif subject == subjects.acknowledgement(subjects.partition_token(site)):
            self._keep_acknowledgement(site, data)
        else:
            raise _Bad("the subject is not the site's own")

    def _keep_event(self, site: str, data: bytes) -> None:
        event = _parsed(report_pb2.Event(), data)
        _check_sender(site, event.site, event.event_id)
        runs = _runs(event.thinned)
        at_ms = _instant(event.at_ms)
        new = self._add_and_audit(
            site,
            EventRecord(
                site=site,
                event_id=event.event_id,
                at_ms=at_ms,
                severity=_SEVERITY.get(event.severity, Severity.WARNING),
                code=_line("code", event.code),
                text=_line("text", event.text),
            ),
        )
        if new and runs:
            frames = sum(last - first + 1 for first, last in runs)
            self._ledger.add_thinned(
                ThinnedFrames(site=site, event_id=event.event_id, at_ms=at_ms, frames=frames, runs=runs)
            )

    def _add_and_audit(self, site: str, event: EventRecord) -> bool:
        """Whether the event is new."""
        now_ms = self._utc_ms()
        if not self._ledger.add_event(event):
            return False
        if event.code not in _AUDITED:
            return True
        if now_ms - self._audited_ms.get((site, event.code), -_AUDITED_AGAIN_MS) >= _AUDITED_AGAIN_MS:
            self._audited_ms[site, event.code] = now_ms
            self._ledger.audit(f"site.{event.code}", actor=f"site:{site}", subject=site, at_ms=now_ms, text=event.text)
        return True

    def _keep_acknowledgement(self, site: str, data: bytes) -> None:
        ack = _parsed(report_pb2.Acknowledgement(), data)
        _check_sender(site, ack.site, ack.event_id)
        if not ack.kind.isprintable():
            raise _Bad(f"its kind is no word: {_line('code', ack.kind)!r}")
        state = _STATE.get(ack.state)
        if state is None:
            raise _Bad(f"acknowledgement state {ack.state} is unknown")
        refused = state is IntentState.REFUSED
        if (refused and ack.sequence >= _SEQUENCES) or (
            self._ledger.intent(site, ack.kind, _sequence(ack.sequence)) is None
        ):
            if refused:
                # Nobody here asked for it: somebody else did, or tried to.
                what = f"refuses {_line('code', ack.kind)} {ack.sequence}, which was never sent"
                self._add_and_audit(
                    site,
                    EventRecord(
                        site=site,
                        event_id=ack.event_id,
                        at_ms=_instant(ack.at_ms),
                        severity=Severity.ALARM,
                        code="intent.foreign",
                        text=f"{what}: {_line('reason', ack.reason)}",
                    ),
                )
                return
            raise _Bad(f"acknowledges an intent that was never sent: {_line('code', ack.kind)} {ack.sequence}")
        at_ms, reason = _instant(ack.at_ms), _line("reason", ack.reason)
        news = self._ledger.update_intent_state(site, ack.kind, ack.sequence, state, reason, at_ms)
        if news and state is IntentState.REFUSED:
            self._ledger.add_event(
                EventRecord(
                    site=site,
                    event_id=ack.event_id,
                    at_ms=at_ms,
                    severity=Severity.WARNING,
                    code="intent.refused",
                    text=f"refuses {ack.kind} {ack.sequence}: {reason}",
                )
            )

    def _refuse(self, sequence: int, subject: str, why: str, arrival: Arrival) -> None:
        log.warning("report %d on %s refused: %s", sequence, subject, why)
        self._add_own(
            f"report.refused-{arrival.created_ns}-{sequence}",
            Severity.WARNING,
            "report.refused",
            f"a report on {subject} was refused: {why}",
        )

    def _tell(self, code: str, what: str, arrival: Arrival) -> None:
        text = f"stream {subjects.REPORT_STREAM} {what}"
        log.error("%s", text)
        known = self._ledger.stream_offset(subjects.REPORT_STREAM)
        last = known.last_sequence if known else 0
        self._add_own(f"{code}-{subjects.REPORT_STREAM}-{arrival.created_ns}-{last}", Severity.ALARM, code, text)

    def _add_own(self, event_id: str, severity: Severity, code: str, text: str) -> None:
        self._ledger.add_event(
            EventRecord(site=None, event_id=event_id, at_ms=self._utc_ms(), severity=severity, code=code, text=text)
        )


def _parsed(report: Report, data: bytes) -> Report:
    try:
        report.ParseFromString(data)
    except DecodeError as error:
        raise _Bad(f"it is no {type(report).__name__}") from error
    return report


def _check_sender(site: str, named: str, event_id: str) -> None:
    if named != site:
        raise _Bad(f"it names another site: {_line('code', named)!r}")
    if not 0 < len(event_id) <= MOST_CHARACTERS["event_id"]:
        raise _Bad(f"its event_id has {len(event_id)} characters: 1 to {MOST_CHARACTERS['event_id']}")
    if not event_id.isprintable():  # PostgreSQL keeps no text with a zero in it: one report would stop all
        raise _Bad(f"its event_id is no word: {_line('event_id', event_id)!r}")


def _runs(told: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """First and last of each run of frames that an event says were merged into others."""
    if len(told) % 2 or len(told) > 2 * _MOST_RUNS:
        raise _Bad(f"its thinned has {len(told)} numbers: pairs, at most {_MOST_RUNS} of them")
    runs, end = [], -1
    for skipped, length in zip(told[::2], told[1::2], strict=True):
        first, end = end + 1 + skipped, end + skipped + length
        if not length or first < FIRST_SEQ or end >= _FRAMES:
            raise _Bad(f"its thinned names frames {first} to {end}, which cannot be")
        runs.append((first, end))
    return tuple(runs)


def _instant(utc_ms: int) -> int:
    if not 0 < utc_ms < 1 << 53:
        raise _Bad(f"at_ms {utc_ms} is no instant")
    return utc_ms


def _sequence(number: int) -> int:
    if number >= _SEQUENCES:
        raise _Bad(f"sequence {number} is none of ours")
    return number


def _line(name: str, text: str) -> str:
    """A site's words as one line of bounded length: it is shown to people."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    most = MOST_CHARACTERS[name]
    return line if len(line) <= most else line[: most - 1] + "…"
