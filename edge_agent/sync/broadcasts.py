"""What the coordinator says to a whole group: believed only when signature, group, order and times are right.

A broadcast is signed over another text than an intent, so that neither can pass for the other. Which sequence came
last is kept in memory only: control, which outlives this process, keeps what it followed, and what is older than that
moves nothing there either.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from edge_agent.model.clock import Clock
from edge_agent.sync.intents import CLOCK_TOLERANCE_MS, MOST_CLOCK_ERROR_MS, CommandKeys
from protos import subjects
from protos.vpp.v1.broadcast_pb2 import Broadcast, SignedBroadcast

log = logging.getLogger(__name__)

LONGEST_MS = 24 * 3600 * 1000  # from issue to expiry; nothing that is said once may hold for longer
MILLION = 1_000_000
REFUSALS_PERIOD_S = 60.0  # refusals are told once in so long, with how many there were


@dataclass(frozen=True, slots=True)
class Refuse:
    """The broadcast goes nowhere."""

    reason: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """What was believed already came again, as it was."""


Verdict = Broadcast | Refuse | Repeated


def judge(data: bytes, subject: str, *, keys: CommandKeys, newest: int, now_ms: int, clock_error_ms: float) -> Verdict:
    """What becomes of the bytes that came on a group's subject.

    newest: the sequence last believed of this group, -1 before the first. clock_error_ms: how far this clock may be
    off: what may already have expired is treated as expired.
    """
    try:
        signed = SignedBroadcast.FromString(data)
        broadcast = Broadcast.FromString(signed.broadcast)
    except DecodeError:
        return Refuse("it is no signed broadcast")
    if forged := keys.verify(
        subjects.BROADCAST_SIGNED_AS + signed.broadcast, signature=signed.signature, key_id=signed.key_id
    ):
        return Refuse(forged)
    body = broadcast.WhichOneof("body")
    if body not in subjects.BROADCAST_KINDS:
        return Refuse("it has no body that this agent knows: update the agent")
    if subject != f"vpp.group.{broadcast.group}.{body}":
        return Refuse(f"a {body} for group {broadcast.group!r} came on {subject}")
    if broadcast.sequence == newest:
        return Repeated()
    if broadcast.sequence < newest:
        return Refuse(f"its sequence {broadcast.sequence} is not newer than {newest}")
    if clock_error_ms > MOST_CLOCK_ERROR_MS and body != "stop":
        return Refuse(f"this gateway's clock is too uncertain: known to within {clock_error_ms / 1000:.0f} s only")
    if now_ms + clock_error_ms >= broadcast.expires_ms:
        return Refuse(f"it had expired at {broadcast.expires_ms} ms UTC")
    ahead_ms = broadcast.issued_ms - now_ms
    if ahead_ms > clock_error_ms + CLOCK_TOLERANCE_MS:
        return Refuse(f"it was issued {ahead_ms / 1000:.1f} s in the future: this gateway's clock is slow")
    if broadcast.expires_ms - broadcast.issued_ms > LONGEST_MS:
        return Refuse("it would hold for more than 24 h")
    if reason := _unusable(broadcast):
        return Refuse(reason)
    return broadcast


def _unusable(broadcast: Broadcast) -> str:
    """Why control could not carry it out."""
    match broadcast.WhichOneof("body"):
        case "price" if broadcast.price.step_share_e6 > MILLION:
            return f"a step share of {broadcast.price.step_share_e6} millionths is more than all of it"
        case "price" if broadcast.price.tick_fraction_e6 >= MILLION:
            return f"{broadcast.price.tick_fraction_e6} millionths of a tick are no fraction of one"
        case "regulation" if abs(broadcast.regulation.signal_e6) > MILLION:
            return f"a signal of {broadcast.regulation.signal_e6} millionths is more than all of it"
        case _:
            return ""


class BroadcastDoor:
    """Where broadcasts come in: judges each and forwards it to control. Nothing is acknowledged: groups are large."""

    def __init__(
        self,
        *,
        keys: CommandKeys,
        groups: Collection[str],
        clock: Clock,
        forward: Callable[[str, Broadcast], None],
        refused: Callable[[str], None],
    ) -> None:
        """
        Args:
            keys: whose signature is believed.
            groups: the site's own; what is said to others is not for it, whatever the broker sends here.
            clock: for expiries.
            forward: takes kind and broadcast to control.
            refused: told why one was not believed, once a minute.
        """
        self.keys = keys
        self.groups = groups
        self.clock_error_ms = CLOCK_TOLERANCE_MS
        self._clock = clock
        self._forward = forward
        self._refused = refused
        self._newest: dict[str, int] = {}
        self._next_told_s = float("-inf")
        self._untold = 0

    def receive(self, subject: str, data: bytes) -> None:
        """Takes the bytes that came on a subject of a group."""
        group = subject.split(".")[2]
        if group not in self.groups:
            self._refuse(f"{subject}: this site is not in group {group}")
            return
        verdict = judge(
            data,
            subject,
            keys=self.keys,
            newest=self._newest.get(group, -1),
            now_ms=self._clock.utc_ms(),
            clock_error_ms=self.clock_error_ms,
        )
        match verdict:
            case Broadcast():
                self._newest[group] = verdict.sequence
                self._forward(subject.rsplit(".", 1)[1], verdict)
            case Refuse(reason=reason):
                self._refuse(f"{subject}: {reason}")
            case Repeated():
                pass

    def _refuse(self, reason: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._next_told_s:
            self._untold += 1
            return
        before = f" ({self._untold} more were refused before it)" if self._untold else ""
        log.warning("broadcast refused: %s%s", reason, before)
        self._refused(f"broadcast refused: {reason}{before}")
        self._next_told_s, self._untold = now_s + REFUSALS_PERIOD_S, 0
