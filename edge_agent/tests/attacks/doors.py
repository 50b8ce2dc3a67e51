"""Both doors by which a site hears its coordinator, signed messages for them, and what got through."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.model.clock import Clock
from edge_agent.sync.broadcasts import BroadcastDoor
from edge_agent.sync.intents import CommandKeys, IntentDoor
from edge_agent.sync.journal import Journal
from edge_agent.sync.state import State
from protos import subjects
from protos.vpp.v1.broadcast_pb2 import Broadcast, Price, SignedBroadcast
from protos.vpp.v1.intent_pb2 import Intent, PowerSetpoint, SignedIntent
from protos.vpp.v1.report_pb2 import Acknowledgement

NOW_MS = 1_700_000_000_000
KEY, THIEF = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
RAW = KEY.public_key().public_bytes_raw()
KEY_ID = hashlib.sha256(RAW).digest()[:8]


class StillClock:
    """The site's clock, which a test sets."""

    now_ms = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000


class Site:
    """Both doors of a site, and what got through."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.moved: list[str] = []
        self.told: list[str] = []
        state = State(folder)
        self.journal = Journal(folder, "home-01", state, self.clock)
        keys = CommandKeys([RAW])
        self._intents = IntentDoor(
            site="home-01",
            keys=keys,
            state=state,
            journal=self.journal,
            clock=self.clock,
            forward=lambda kind, message: self.moved.append(f"{kind} {message.sequence}"),
            wake=lambda: None,
        )
        self._broadcasts = BroadcastDoor(
            groups=("north",),
            keys=keys,
            clock=self.clock,
            forward=lambda kind, message: self.moved.append(f"{kind} {message.sequence}"),
            refused=self.told.append,
        )

    def hear(self, data: bytes, kind: str = "setpoint", *, live: bool = True) -> None:
        self._intents.receive(kind, data, live=live)

    def hear_group(self, data: bytes, subject: str = "vpp.group.north.price") -> None:
        self._broadcasts.receive(subject, data)

    def refusals(self) -> list[str]:
        """Reasons that travel back, since the last call."""
        found = []
        while (report := self.journal.oldest_report()) is not None:
            ack = Acknowledgement.FromString(report.body)
            if ack.state == Acknowledgement.STATE_REFUSED:
                found.append(ack.reason)
            self.journal.report_acknowledged(report)
        return found


def intent(sequence: int = 5, key: Ed25519PrivateKey = KEY, site: str = "home-01") -> SignedIntent:
    message = Intent(
        site=site,
        sequence=sequence,
        issued_ms=NOW_MS,
        valid_from_ms=NOW_MS,
        expires_ms=NOW_MS + 60_000,
        setpoint=PowerSetpoint(inverter_power_w=1000),
    )
    data = message.SerializeToString()
    return SignedIntent(intent=data, signature=key.sign(data), key_id=KEY_ID)


def broadcast(sequence: int = 5, key: Ed25519PrivateKey = KEY, group: str = "north") -> SignedBroadcast:
    message = Broadcast(
        group=group, sequence=sequence, issued_ms=NOW_MS, expires_ms=NOW_MS + 5_000, price=Price(ticks=100)
    )
    data = message.SerializeToString()
    return SignedBroadcast(broadcast=data, signature=key.sign(subjects.BROADCAST_SIGNED_AS + data), key_id=KEY_ID)
