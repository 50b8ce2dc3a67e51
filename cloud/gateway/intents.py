"""Sends intents: recorded in the ledger, signed, and kept by the broker until a newer one takes their place."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import nats.errors
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from opentelemetry import trace

from cloud.gateway.fleet_guard import FleetGuard, SecondPersonNeeded
from cloud.identity.signing import CommandSigner
from cloud.model.records import IntentRecord
from cloud.store.audit import COORDINATOR
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import intent_pb2

Body = (
    intent_pb2.Schedule
    | intent_pb2.ArmService
    | intent_pb2.Release
    | intent_pb2.Envelope
    | intent_pb2.PowerSetpoint
    | intent_pb2.FollowPrice
    | intent_pb2.StopOrder
)

_FIELD_OF_BODY: Final = {
    field.message_type: field.name for field in intent_pb2.Intent.DESCRIPTOR.oneofs_by_name["body"].fields
}
_TRACER: Final = trace.get_tracer("murmuration")
_TRIES: Final = 3
_ACK_S: Final = 5.0
_BETWEEN_S: Final = 0.5


class IntentNotSent(Exception):
    """The broker did not take an intent: the site was not told."""


class IntentHeld(IntentNotSent):
    """The fleet guard stopped it: it waits for a second person."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What the broker kept instead, and the sequence that stands there again; None where nothing is in force."""

    found: RawStreamMsg | None
    restored: int | None


class IntentSender:
    """The one way to ask something of a site."""

    def __init__(
        self,
        nc: Client,
        signer: CommandSigner,
        ledger: Ledger,
        utc_ms: Callable[[], int],
        guard: FleetGuard | None = None,
    ) -> None:
        """guard: of the fleet; None where nothing is sent that moves power."""
        self._guard = guard
        self._js = nc.jetstream(timeout=_ACK_S)
        self._signer = signer
        self._ledger = ledger
        self._utc_ms = utc_ms
        # One at a time per site and kind: the broker keeps what comes last, and that must be the highest sequence.
        self._turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    @_TRACER.start_as_current_span("intent.send")
    async def send(
        self, body: Body, site: str, kind: str, valid_from_ms: int, expires_ms: int, *, actor: str = COORDINATOR
    ) -> int:
        """The sequence number under which the broker keeps the intent now. actor: who asks, for the audit log.

        Raises ValueError for a kind that does not fit the body, LedgerError for an unknown site or times that cannot
        be, IntentNotSent when the broker does not answer, IntentHeld when it needs a second person.
        """
        subject = subjects.intent(site, kind)
        _check_kind(body, kind)
        content = body_text(body)
        async with self._turns[site, kind]:
            if self._guard is not None:
                try:
                    await asyncio.to_thread(self._guard.admit_intent, site, body, expires_ms, actor)
                except SecondPersonNeeded as error:
                    raise IntentHeld(str(error)) from error
            record = await asyncio.to_thread(
                self._ledger.record_intent,
                site,
                kind,
                valid_from_ms=valid_from_ms,
                expires_ms=expires_ms,
                body=content,
                now_ms=self._utc_ms(),
                actor=actor,
            )
            try:
                await self._publish(subject, self._payload(record), f"{site}.{kind}.{record.sequence}")
            except IntentNotSent:
                await asyncio.to_thread(self._ledger.set_intent_not_sent, site, kind, record.sequence, self._utc_ms())
                raise
        return record.sequence

    async def mend(self, subject: str) -> Mended | None:
        """Makes the broker keep what the ledger says under this subject of intents; None where it does already.

        What is in force is published again, to the byte as it was; what is not ours goes. Raises IntentNotSent.
        """
        _, _, site, kind = subject.split(".", 3)
        try:
            if await asyncio.to_thread(self._ledger.latest_intent, site, kind) is None:
                return await self._remove_foreign(subject)  # no turn: the subject may be anybody's invention
            async with self._turns[site, kind]:
                latest = await asyncio.to_thread(self._ledger.latest_intent, site, kind)
                if latest is None or not latest.in_force(self._utc_ms()):
                    return await self._remove_foreign(subject)
                stored, payload = await self._stored(subject), self._payload(latest)
                if stored is not None and stored.data == payload:
                    return None
                message_id = f"{site}.{kind}.{latest.sequence}.again.{secrets.token_hex(8)}"
                await self._publish(subject, payload, message_id)
                return Mended(stored, latest.sequence)
        except (nats.errors.Error, JetStreamError, OSError) as error:
            raise IntentNotSent(f"{subject}: the broker does not answer ({error!r})") from error

    async def _remove_foreign(self, subject: str) -> Mended | None:
        """Takes away what is stored there and not ours, and nothing that comes after it."""
        stored = await self._stored(subject)
        if stored is None or stored.seq is None or self.is_ours(subject, stored.data or b""):
            return None
        await self._js.purge_stream(subjects.INTENT_STREAM, seq=stored.seq + 1, subject=subject)
        return Mended(stored, None)

    def is_ours(self, subject: str, data: bytes) -> bool:
        """Whether this key signed it, for the site and kind of the subject."""
        try:
            signed = intent_pb2.SignedIntent.FromString(data)
            intent = intent_pb2.Intent.FromString(signed.intent)
        except DecodeError:
            return False
        kind = subjects.INTENT_KIND_OF_BODY.get(intent.WhichOneof("body") or "", "")
        return subject == f"vpp.intent.{intent.site}.{kind}" and self._signer.is_own(signed)

    async def _stored(self, subject: str) -> RawStreamMsg | None:
        try:
            # Not a direct get: its answer would say where it was read in the headers that say whose answer is stored.
            return await self._js.get_last_msg(subjects.INTENT_STREAM, subject)
        except NotFoundError:
            return None

    def _payload(self, record: IntentRecord) -> bytes:
        """The intent as it travels: always the same bytes for the same record, by which a site knows it again."""
        intent = Parse(record.body, intent_pb2.Intent())
        intent.site = record.site
        intent.sequence = record.sequence
        intent.issued_ms = record.issued_ms
        intent.valid_from_ms = record.valid_from_ms
        intent.expires_ms = record.expires_ms
        return self._signer.sign(intent).SerializeToString()

    async def _publish(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publish until the broker has it on the disk. A try that was stored after all is dropped by its id."""
        headers = {"Nats-Msg-Id": message_id}
        for left in reversed(range(_TRIES)):
            try:
                await self._js.publish(subject, payload, stream=subjects.INTENT_STREAM, headers=dict(headers))
            except (nats.errors.Error, JetStreamError, OSError) as error:
                if not left:
                    raise IntentNotSent(f"{subject}: the broker does not take it ({error!r})") from error
                await asyncio.sleep(_BETWEEN_S)
            else:
                return


def sequence_of(data: bytes) -> int:
    """The sequence that a signed intent of ours bears."""
    return intent_pb2.Intent.FromString(intent_pb2.SignedIntent.FromString(data).intent).sequence


def body_text(body: Body) -> str:
    """The body as the ledger keeps it: an Intent with nothing else in it, as protobuf JSON."""
    field = _FIELD_OF_BODY[body.DESCRIPTOR]
    intent = intent_pb2.Intent()
    getattr(intent, field).CopyFrom(body)
    getattr(intent, field).SetInParent()
    return MessageToJson(intent, indent=None, preserving_proto_field_name=True)


def _check_kind(body: Body, kind: str) -> None:
    if subjects.INTENT_KIND_OF_BODY[_FIELD_OF_BODY[body.DESCRIPTOR]] != kind:
        raise ValueError(f"intent of kind {kind!r} cannot carry {type(body).__name__}")
