"""Intents from the coordinator: believed only when the signature, the site, the order and the times are right.

The broker is not trusted with this: whoever can publish there can at most repeat what the coordinator signed for this
very site, and the sequence number and the expiry take the use out of that.
"""

import hashlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from edge_agent.model.clock import Clock
from edge_agent.sync.journal import Journal, ReportKind
from edge_agent.sync.state import AcceptedIntent, State
from protos import services, subjects
from protos.vpp.v1.intent_pb2 import ArmService, Intent, SignedIntent
from protos.vpp.v1.report_pb2 import Acknowledgement

log = logging.getLogger(__name__)

FARTHEST_VALID_FROM_MS = 7 * 24 * 3600 * 1000
MOST_CLOCK_ERROR_MS = 60_000.0  # of a clock by which anything can be said to begin or to end
CLOCK_TOLERANCE_MS = 2_000.0  # a clock that is off by more than this says so
MAX_SCHEDULE_MTUS = 7 * 24 * 60
MAX_MTU_S = 24 * 3600
MAX_REFUSALS_A_MINUTE = 20  # told and kept; whoever floods the subject shall not wear out the gateway's flash
REMEMBERED = 256  # intents refused or forwarded lately, by digest


class CommandKeys:
    """The coordinator's command keys, by the id that a signed intent names."""

    def __init__(self, raw_keys: Iterable[bytes]) -> None:
        """raw_keys: raw Ed25519 public keys, as in Credentials.command_keys. Raises ValueError for anything else."""
        self._keys = {hashlib.sha256(raw).digest()[:8]: VerifyKey(raw) for raw in raw_keys}

    def verify(self, signed_bytes: bytes, *, signature: bytes, key_id: bytes) -> str | None:
        """Why the signature is not the coordinator's; None if it is."""
        key = self._keys.get(key_id)
        if key is None:
            return f"signed with the unknown key {key_id.hex() or '(none)'}"
        try:
            key.verify(signed_bytes, signature)
        except (BadSignatureError, ValueError):  # ValueError: a signature of another length
            return "the signature is wrong"
        return None


@dataclass(frozen=True, slots=True)
class Forward:
    """The intent goes to control. `fresh`: it is accepted just now; else control is told again after a restart."""

    intent: Intent
    fresh: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """The intent goes nowhere. `sequence` is what it claims to be; the coordinator is told why."""

    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing new: control had it, or it is over and its end was reported."""


Verdict = Forward | Refuse | Ignore


def judge(
    data: bytes,
    kind: str,
    *,
    live: bool,
    site: str,
    keys: CommandKeys,
    accepted: AcceptedIntent | None,
    now_ms: int,
    clock_error_ms: float,
) -> Verdict:
    """What becomes of a signed intent that came on the subject of `kind`.

    live: as it was published; else it was read from the store, where an old one is no attack. accepted: the newest
    of this kind that was ever accepted. clock_error_ms: how far this clock may be off: an intent that may already
    have expired is treated as expired.
    """
    try:
        signed = SignedIntent.FromString(data)
        intent = Intent.FromString(signed.intent)
    except DecodeError:
        return Refuse(0, "it is no signed intent")
    if forged := keys.verify(signed.intent, signature=signed.signature, key_id=signed.key_id):
        return Refuse(intent.sequence, forged)
    if intent.site != site:
        return Refuse(intent.sequence, f"it is for site {intent.site!r}")
    body = intent.WhichOneof("body")
    if subjects.INTENT_KIND_OF_BODY.get(body or "") != kind:
        return Refuse(intent.sequence, f"a body {body or 'of an unknown kind'} came as kind {kind}")
    digest = hashlib.sha256(signed.intent).hexdigest()
    known = accepted is not None and accepted.sequence == intent.sequence and accepted.digest == digest
    if accepted is not None and intent.sequence < accepted.sequence and not live:
        return Ignore()
    if accepted is not None and intent.sequence <= accepted.sequence and not known:
        return Refuse(intent.sequence, f"its sequence is not newer than {accepted.sequence}")
    if now_ms + clock_error_ms >= intent.expires_ms:
        return Ignore() if known else Refuse(intent.sequence, f"it had expired at {intent.expires_ms} ms UTC")
    if known:
        return Forward(intent, fresh=False)
    if finding := _implausible(intent, now_ms, clock_error_ms) or _unusable(intent):
        return Refuse(intent.sequence, finding)
    return Forward(intent, fresh=True)


def _implausible(intent: Intent, now_ms: int, clock_error_ms: float) -> str | None:
    if intent.valid_from_ms >= intent.expires_ms:
        return "it ends before it begins"
    if intent.valid_from_ms > now_ms + FARTHEST_VALID_FROM_MS:
        return f"it begins more than 7 days ahead, at {intent.valid_from_ms} ms UTC"
    # A stop is obeyed by any clock.
    if clock_error_ms > MOST_CLOCK_ERROR_MS and not intent.HasField("stop"):
        return f"this gateway's clock is too uncertain: known to within {clock_error_ms / 1000:.0f} s only"
    ahead_ms = intent.issued_ms - now_ms
    if ahead_ms > clock_error_ms + CLOCK_TOLERANCE_MS:
        return f"it was issued {ahead_ms / 1000:.1f} s in the future: this gateway's clock is slow"
    return None


def _unusable(intent: Intent) -> str | None:
    """Why control could not carry it out."""
    match intent.WhichOneof("body"):
        case "schedule":
            return _unusable_units("schedule", intent.schedule.mtu_s, len(intent.schedule.inverter_power_w))
        case "envelope":
            return _unusable_units("envelope", intent.envelope.mtu_s, len(intent.envelope.export_limit_w))
        case "arm":
            return _unusable_service(intent.arm)
        case _:
            return None


def _unusable_units(what: str, mtu_s: int, units: int) -> str | None:
    if not 1 <= mtu_s <= MAX_MTU_S:
        return f"a market time unit of {mtu_s} s"
    if not 1 <= units <= MAX_SCHEDULE_MTUS:
        return f"{'an' if what[0] == 'e' else 'a'} {what} of {units} market time units"
    return None


def _unusable_service(arm: ArmService) -> str | None:
    try:
        service = services.parse(arm.service_toml)
    except services.ServiceError as error:
        return str(error)
    if (service.id, service.version) != (arm.service_id, arm.service_version):
        return (
            f"it names {arm.service_id} version {arm.service_version} but brings {service.id} version {service.version}"
        )
    if arm.contracted_w == 0:
        return "it contracts no power"
    return None


class IntentDoor:
    """Where intents come in: judges each, keeps what must be kept, forwards to control, acknowledges."""

    def __init__(
        self,
        *,
        site: str,
        keys: CommandKeys,
        state: State,
        journal: Journal,
        clock: Clock,
        forward: Callable[[str, Intent], None],
        wake: Callable[[], None],
    ) -> None:
        """forward: takes kind and intent to control. wake: called when there is an acknowledgement to send."""
        self.keys = keys
        self.clock_error_ms = CLOCK_TOLERANCE_MS
        self._site = site
        self._state = state
        self._journal = journal
        self._clock = clock
        self._forward = forward
        self._wake = wake
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._refused_at_s: deque[float] = deque(maxlen=MAX_REFUSALS_A_MINUTE)
        self.refusals_untold = 0

    def receive(self, kind: str, data: bytes, *, live: bool) -> None:
        """Takes the bytes that came on the intent subject of `kind`. Raises JournalError."""
        mark = hashlib.sha256(kind.encode() + b"\0" + data).digest()
        if mark in self._seen:
            return  # forwarded or refused by this process already: a reconnect reads the store again
        accepted = self._state.accepted(kind)
        verdict = judge(
            data,
            kind,
            live=live,
            site=self._site,
            keys=self.keys,
            accepted=accepted,
            now_ms=self._clock.utc_ms(),
            clock_error_ms=self.clock_error_ms,
        )
        match verdict:
            case Forward(intent=intent, fresh=fresh):
                if fresh:
                    self._accept(kind, intent, data)
                log.info("intent %s: kind=%s sequence=%d", "received" if fresh else "resumed", kind, intent.sequence)
                self._forward(kind, intent)
            case Refuse(sequence=sequence, reason=reason):
                self._refuse(kind, sequence, reason, mark)
            case Ignore():
                pass
        self._seen[mark] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _refuse(self, kind: str, sequence: int, reason: str, mark: bytes) -> None:
        now_s = self._clock.monotonic_s()
        recent = self._refused_at_s
        if len(recent) == MAX_REFUSALS_A_MINUTE and now_s - recent[0] < 60.0:
            self.refusals_untold += 1
            if self.refusals_untold == 1:
                log.error("intents refused faster than can be told: kind=%s reason=%s", kind, reason)
            return
        recent.append(now_s)
        suffix = f" ({self.refusals_untold} more were refused before it)" if self.refusals_untold else ""
        log.warning("intent refused: kind=%s sequence=%d reason=%s%s", kind, sequence, reason, suffix)
        # The name comes from the content: a copy that is refused again after a restart is told under the same one.
        name = f"{kind}-{sequence}-refused-{mark[:8].hex()}"
        self._acknowledge(kind, sequence, Acknowledgement.STATE_REFUSED, name, reason + suffix)
        self.refusals_untold = 0

    def _accept(self, kind: str, intent: Intent, data: bytes) -> None:
        # Acknowledgement first, then what makes it known: a crash between them repeats the acknowledgement under the
        # same event_id, which the coordinator drops; the other order could lose it. Control accepts or refuses it.
        name = f"{kind}-{intent.sequence}-received"
        self._acknowledge(kind, intent.sequence, Acknowledgement.STATE_RECEIVED, name, "")
        digest = hashlib.sha256(SignedIntent.FromString(data).intent).hexdigest()
        self._state.accept(kind, AcceptedIntent(intent.sequence, digest))

    def _acknowledge(
        self, kind: str, sequence: int, state: "Acknowledgement.State", event_id: str, reason: str
    ) -> None:
        message = Acknowledgement(
            site=self._site,
            kind=kind,
            sequence=sequence,
            state=state,
            reason=reason,
            at_ms=self._clock.utc_ms(),
            event_id=event_id,
        )
        self._journal.append_report(ReportKind.ACKNOWLEDGEMENT, event_id, message.SerializeToString())
        self._wake()
