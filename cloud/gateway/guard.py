"""Guards what the broker keeps as intents: it must be what the ledger says, whoever wrote something else there.

A client's publish permissions do not cover the reply subject. A site may name another site's intent as the place for
the broker's answer, and the answer is then stored in the place of the intent. The site it meets refuses it, for it is
not signed for it; what was displaced is put back here. It also puts back what a lost store of the broker forgot.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import Error as JetStreamError

from cloud.gateway.intents import IntentNotSent, IntentSender, sequence_of
from cloud.model.records import EventRecord, Severity
from cloud.store.ledger import Ledger
from protos import subjects

log = logging.getLogger(__name__)

_ALL: Final = subjects.INTENT_SUBJECTS[0]
_SWEEP_S: Final = 300.0
_RETRY_S: Final = 2.0
_TOLD_AGAIN_MS: Final = 60_000  # an alarm a minute and site, or an attacker fills the ledger
_ANSWER_S: Final = 5.0
_SHOWN: Final = 80  # characters of what was found


class IntentGuard:
    """Watches the intents live, and looks at all of them at the start, whenever `due` is set and now and then."""

    def __init__(
        self,
        connection: Client,
        sender: IntentSender,
        ledger: Ledger,
        utc_ms: Callable[[], int],
        due: asyncio.Event,
    ) -> None:
        self._connection = connection
        self._js = connection.jetstream(timeout=_ANSWER_S)
        self._sender = sender
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._due = due
        self._told: dict[str, int] = {}  # what an alarm was about -> when

    async def run(self) -> None:
        """Guard for ever."""
        seen: asyncio.Queue[Msg] = asyncio.Queue(maxsize=10_000)

        async def on_message(message: Msg) -> None:
            if await self._is_settled(message.subject, message.data):
                return
            try:
                seen.put_nowait(message)
            except asyncio.QueueFull:
                self._due.set()  # nothing is missed: all are looked at

        await self._connection.subscribe(_ALL, cb=on_message)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._mend_seen(seen))
            group.create_task(self._sweep_for_ever())

    async def _is_settled(self, subject: str, data: bytes) -> bool:
        """Whether a message is the newest that the ledger has for its subject, or a newer one."""
        if not self._sender.is_ours(subject, data):
            return False
        _, _, site, kind = subject.split(".", 3)
        latest = await asyncio.to_thread(self._ledger.latest_intent, site, kind)
        return latest is not None and sequence_of(data) >= latest.sequence

    async def _mend_seen(self, seen: "asyncio.Queue[Msg]") -> None:
        while True:
            message = await seen.get()
            try:
                if not await self._mend(message.subject) and not self._sender.is_ours(message.subject, message.data):
                    what, who = await self._known_of(message.data, message.headers)
                    text = f"what went out as {message.subject} is forged: {what}, {_by(who)}; nothing was displaced"
                    await self._alarm(message.subject, "intent.forged", text, what, who)
            except IntentNotSent:
                self._due.set()

    async def _sweep_for_ever(self) -> None:
        failed = False
        while True:
            self._due.clear()
            try:
                await self._sweep()
            except (IntentNotSent, nats.errors.Error, JetStreamError, OSError) as error:
                if not failed:
                    log.warning("intents at the broker could not be compared with the ledger: %r; trying on", error)
                failed = True
                await asyncio.sleep(_RETRY_S)
                continue
            failed = False
            try:
                await asyncio.wait_for(self._due.wait(), _SWEEP_S)
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        """Every subject that has something stored or should have."""
        info = await self._js.stream_info(subjects.INTENT_STREAM, subjects_filter=_ALL)
        now_ms = self._utc_ms()
        latest = await asyncio.to_thread(self._ledger.latest_intents)
        wanted = {subjects.intent(intent.site, intent.kind) for intent in latest if intent.in_force(now_ms)}
        for subject in sorted(wanted | set(info.state.subjects or {})):
            await self._mend(subject)

    async def _mend(self, subject: str) -> bool:
        """Whether something had to be mended."""
        mended = await self._sender.mend(subject)
        if mended is None:
            return False
        if mended.found is None:
            text = f"the broker had lost {subject}: intent {mended.restored} was published again from the ledger"
            await asyncio.to_thread(self._tell, subject, "intent.restored", Severity.WARNING, text, {})
            return True
        data = mended.found.data or b""
        if self._sender.is_ours(subject, data):
            what, who = "an older intent of our own", None
        else:
            what, who = await self._known_of(data, mended.found.headers)
        after = f"intent {mended.restored} was published again" if mended.restored else "it was removed"
        text = f"what the broker kept as {subject} was displaced by {what}, {_by(who)}; {after}"
        await self._alarm(subject, "intent.displaced", text, what, who)
        return True

    async def _alarm(self, subject: str, code: str, text: str, what: str, who: str | None) -> None:
        await asyncio.to_thread(self._tell, subject, code, Severity.ALARM, text, {"by": who or "", "what": what})

    async def _known_of(self, data: bytes, headers: Mapping[str, str] | None) -> tuple[str, str | None]:
        """What a foreign message is, and the site whose credentials brought it there."""
        if headers and (source := headers.get("Nats-Subject")):
            return f"the broker's answer to a read of {source}", _site_in(source)
        try:
            answer = json.loads(data)
            stream, sequence = str(answer["stream"]), int(answer["seq"])
        except (ValueError, KeyError, TypeError):
            return f"{data[:_SHOWN]!r}", None
        what = f"the broker's acknowledgement of message {sequence} of {stream}"
        try:
            cause = await self._js.get_msg(stream, sequence)
        except (JetStreamError, nats.errors.Error, OSError, ValueError):
            return what, None
        return f"{what} on {cause.subject}", _site_in(cause.subject or "")

    def _tell(self, subject: str, code: str, severity: Severity, text: str, detail: dict[str, str]) -> None:
        _, _, site, _ = subject.split(".", 3)
        now_ms = self._utc_ms()
        known = self._ledger.site(site) is not None
        about = f"{code} {subject if known else '?'}"
        if now_ms - self._told.get(about, -_TOLD_AGAIN_MS) < _TOLD_AGAIN_MS:
            return
        self._told[about] = now_ms
        log.log(logging.ERROR if severity is Severity.ALARM else logging.WARNING, "%s", text)
        event = EventRecord(
            site=site if known else None,
            event_id=f"{code}-{subject}-{now_ms}",
            at_ms=now_ms,
            severity=severity,
            code=code,
            text=text,
        )
        with self._ledger.transaction():
            self._ledger.add_event(event)
            actor = f"site:{detail['by']}" if detail.get("by") else "unknown"
            self._ledger.audit(code, actor=actor, subject=site, at_ms=now_ms, stored_as=subject, **detail)


def _by(site: str | None) -> str:
    return f"with the credentials of {site}" if site else "by whom is not known"


def _site_in(subject: str) -> str | None:
    """The site that a subject of ours belongs to."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[0] != "vpp":
        return None
    return parts[2] if parts[1] == "intent" else parts[3]
