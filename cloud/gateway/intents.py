"""Sends intents: recorded in the ledger, signed, and kept by the broker until a newer one takes their place."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import nats.errors
from google.protobuf.json_format import MessageToJson
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError

from cloud.identity.signing import CommandSigner
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import intent_pb2

Body = intent_pb2.Schedule | intent_pb2.ArmService | intent_pb2.Release

_TRIES: Final = 3
_ACK_S: Final = 5.0
_BETWEEN_S: Final = 0.5


class IntentNotSent(Exception):
    """The broker did not take an intent: the site was not told."""


class IntentSender:
    """The one way to ask something of a site."""

    def __init__(self, nc: Client, signer: CommandSigner, ledger: Ledger, utc_ms: Callable[[], int]) -> None:
        self._js = nc.jetstream(timeout=_ACK_S)
        self._signer = signer
        self._ledger = ledger
        self._utc_ms = utc_ms
        # One at a time per site and kind: the broker keeps what comes last, and that must be the highest sequence.
        self._turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def send(self, body: Body, site: str, kind: str, valid_from_ms: int, expires_ms: int) -> int:
        """The sequence number under which the broker keeps the intent now.

        Raises ValueError for a kind that does not fit the body, LedgerError for an unknown site or times that cannot
        be, IntentNotSent when the broker does not answer.
        """
        subject = subjects.intent(site, kind)
        intent = _with_body(body, kind)
        async with self._turns[site, kind]:
            issued_ms = self._utc_ms()
            record = await asyncio.to_thread(
                self._ledger.record_intent,
                site,
                kind,
                valid_from_ms=valid_from_ms,
                expires_ms=expires_ms,
                body=MessageToJson(intent, indent=None, preserving_proto_field_name=True),
                now_ms=issued_ms,
            )
            intent.site = site
            intent.sequence = record.sequence
            intent.issued_ms = issued_ms
            intent.valid_from_ms = valid_from_ms
            intent.expires_ms = expires_ms
            payload = self._signer.sign(intent).SerializeToString()
            await self._publish(subject, payload, f"{site}.{kind}.{record.sequence}")
        return record.sequence

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


def _with_body(body: Body, kind: str) -> intent_pb2.Intent:
    match body, kind:
        case intent_pb2.Schedule(), "schedule":
            return intent_pb2.Intent(schedule=body)
        case intent_pb2.ArmService(), "service":
            return intent_pb2.Intent(arm=body)
        case intent_pb2.Release(), "service":
            return intent_pb2.Intent(release=body)
        case _:
            raise ValueError(f"intent of kind {kind!r} cannot carry {type(body).__name__}")
