"""Sends broadcasts: one signed message to every site of a group, whatever the group's size, kept by nobody.

A group's sequence numbers follow the clock in milliseconds, inside spans that the ledger hands out: they go on rising
over restarts, over a clock that was set back, and from one leader to the next, and no two processes use the same one.
Each message is signed by itself. A hash chain would spare a gateway four verifications a second (`vpp-hil bench
security`: well below a thousandth of a core each), and would have to be begun anew for every site that missed a link.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import nats.errors
from nats.aio.client import Client

from cloud.gateway.fleet_guard import FleetGuard, SecondPersonNeeded
from cloud.identity.signing import CommandSigner
from cloud.store.audit import COORDINATOR
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2

BroadcastBody = broadcast_pb2.Price | broadcast_pb2.Regulation | intent_pb2.StopOrder

LONGEST_MS: Final = 24 * 3600 * 1000  # a site believes nothing that holds for longer
_SPAN_MS: Final = 10_000  # of sequence numbers taken at once: so long a second process's broadcasts outrank ours
_AUDITED_EVERY_MS: Final = 300_000
_FLUSH_S: Final = 5.0

_KIND_OF_BODY: Final = {
    field.message_type: field.name for field in broadcast_pb2.Broadcast.DESCRIPTOR.oneofs_by_name["body"].fields
}


class BroadcastNotSent(Exception):
    """There is no connection to the broker: the group was not told."""


class BroadcastHeld(BroadcastNotSent):
    """The fleet guard stopped it: it waits for a second person."""


@dataclass(slots=True)
class _Group:
    """Where a group's numbers stand, and what was said since the last entry in the audit log."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    last: int = 0
    bound: int = 0  # of the numbers that are ours; not one of them
    audited_ms: int = -_AUDITED_EVERY_MS
    first_untold: int = 0
    last_untold: int = 0
    untold: int = 0
    digest: Any = field(default_factory=hashlib.sha256)  # of the signed messages since


class BroadcastSender:
    """The one way to say something to a group. One message a group and cycle: what is not fresh is worth nothing."""

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
        self._nc = nc
        self._signer = signer
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)

    async def send(self, body: BroadcastBody, group: str, expires_ms: int, *, actor: str = COORDINATOR) -> int:
        """The sequence number under which the group heard it. A stop has left for the broker when this returns.

        expires_ms: UTC; sites hold it until then at the latest. actor: who sends it, for the audit log.
        Raises ValueError for a name that is none or an expiry that is past or further than a day ahead,
        BroadcastNotSent while the broker cannot be reached: it is not kept for later; BroadcastHeld where it needs a
        second person. Raises LedgerError.
        """
        kind = _KIND_OF_BODY[body.DESCRIPTOR]
        subject = subjects.broadcast(group, kind)
        now_ms = self._utc_ms()
        if not now_ms < expires_ms <= now_ms + LONGEST_MS:
            raise ValueError(f"broadcast {kind} to {group}: expires {(expires_ms - now_ms) / 1000:.1f} s from now")
        state = self._groups[group]
        async with state.turn:
            if not self._nc.is_connected:
                raise BroadcastNotSent(f"{subject}: the broker cannot be reached")
            if self._guard is not None:
                try:
                    await asyncio.to_thread(self._guard.admit_broadcast, group, body, expires_ms, actor)
                except SecondPersonNeeded as error:
                    raise BroadcastHeld(str(error)) from error
            sequence = await self._next(group, state, now_ms)
            message = broadcast_pb2.Broadcast(group=group, sequence=sequence, issued_ms=now_ms, expires_ms=expires_ms)
            getattr(message, kind).CopyFrom(body)
            getattr(message, kind).SetInParent()  # a body of nothing but zeros is one, too
            payload = self._signer.sign_broadcast(message).SerializeToString()
            await self._note(group, state, sequence, payload, now_ms, actor, always=kind == "stop")
            try:
                await self._nc.publish(subject, payload)
                if kind == "stop":
                    await self._nc.flush(int(_FLUSH_S))
            except (TimeoutError, OSError, nats.errors.Error) as error:
                raise BroadcastNotSent(f"{subject}: the broker does not take it ({error!r})") from error
        return sequence

    async def finish(self) -> None:
        """Puts into the audit log what was said since its last entries."""
        for group, state in self._groups.items():
            async with state.turn:
                if state.untold:
                    await self._tell(group, state, self._utc_ms(), COORDINATOR)

    async def _next(self, group: str, state: _Group, now_ms: int) -> int:
        sequence = max(state.last + 1, now_ms)
        if sequence >= state.bound:
            span = await asyncio.to_thread(self._ledger.reserve_broadcasts, group, _SPAN_MS, now_ms)
            sequence, state.bound = span.start, span.stop
        state.last = sequence
        return sequence

    async def _note(
        self, group: str, state: _Group, sequence: int, payload: bytes, now_ms: int, actor: str, *, always: bool
    ) -> None:
        """Counts a message, before it goes out; an entry of the log covers minutes of them, a stop's only its own."""
        if always and state.untold:
            await self._tell(group, state, now_ms, COORDINATOR)
        state.first_untold = state.first_untold if state.untold else sequence
        state.last_untold = sequence
        state.untold += 1
        state.digest.update(payload)
        if always or now_ms - state.audited_ms >= _AUDITED_EVERY_MS:
            await self._tell(group, state, now_ms, actor)

    async def _tell(self, group: str, state: _Group, now_ms: int, actor: str) -> None:
        def write() -> None:
            self._ledger.audit(
                "broadcast.sent",
                actor=actor,
                subject=group,
                at_ms=now_ms,
                first=state.first_untold,
                last=state.last_untold,
                count=state.untold,
                messages_sha256=state.digest.hexdigest(),
            )

        await asyncio.to_thread(write)
        state.audited_ms, state.untold, state.digest = now_ms, 0, hashlib.sha256()
