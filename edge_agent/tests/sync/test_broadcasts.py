"""Which broadcasts are believed."""

import hashlib
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge_agent.sync.broadcasts import BroadcastDoor
from edge_agent.sync.intents import CommandKeys
from protos.vpp.v1.broadcast_pb2 import Broadcast, Price, Regulation, SignedBroadcast
from protos.vpp.v1.intent_pb2 import StopOrder

NOW_MS = 1_700_000_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Clock:
    now_ms = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000


def said(**changed: object) -> Broadcast:
    fields: dict[str, object] = {
        "group": "north",
        "sequence": 5,
        "issued_ms": NOW_MS - 100,
        "expires_ms": NOW_MS + 60_000,
    }
    fields.update(changed)
    if not {"price", "regulation", "stop"} & fields.keys():
        fields["regulation"] = Regulation(signal_e6=250_000)
    return Broadcast(**fields)  # type: ignore[arg-type]


def signed(message: Broadcast, key: Ed25519PrivateKey = KEY, prefix: bytes = b"vpp.v1.Broadcast\0") -> bytes:
    data = message.SerializeToString()
    key_id = hashlib.sha256(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()[:8]
    return SignedBroadcast(broadcast=data, signature=key.sign(prefix + data), key_id=key_id).SerializeToString()


@dataclass
class Site:
    """A BroadcastDoor with what stands behind it."""

    clock: Clock = field(default_factory=Clock)
    forwarded: list[tuple[str, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.door = BroadcastDoor(
            keys=CommandKeys([PUBLIC]),
            groups=["north", "south"],
            clock=self.clock,
            forward=lambda kind, message: self.forwarded.append((kind, message.sequence)),
            refused=self.refused.append,
        )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        pytest.param("regulation", said(), id="regulation"),
        pytest.param("price", said(price=Price(ticks=-1250, step_share_e6=1_000_000)), id="price"),
        pytest.param("stop", said(stop=StopOrder(stop=True, reason="fire")), id="stop"),
        pytest.param("regulation", said(regulation=Regulation()), id="a signal of nothing"),
    ],
)
def test_good_broadcasts_go_to_control_once(kind: str, message: Broadcast) -> None:
    site = Site()
    for _ in range(2):  # a network may deliver twice
        site.door.receive(f"vpp.group.north.{kind}", signed(message))
    assert (site.forwarded, site.refused) == ([(kind, 5)], [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\xff", "no signed broadcast", id="noise"),
        pytest.param(signed(said(), Ed25519PrivateKey.generate()), "unknown key", id="another key"),
        pytest.param(signed(said(), prefix=b""), "signature is wrong", id="signed as an intent is"),
        pytest.param(signed(said(group="south")), "for group 'south' came on vpp.group.north", id="another group"),
        pytest.param(signed(said(price=Price(ticks=1))), "a price for", id="another kind"),
        pytest.param(signed(said(sequence=4)), "sequence 4 is not newer than 5", id="older"),
        pytest.param(signed(said(sequence=6, expires_ms=NOW_MS + 1_999)), "had expired", id="may have expired"),
        pytest.param(signed(said(sequence=6, issued_ms=NOW_MS + 4_100)), "in the future", id="from the future"),
        pytest.param(signed(said(sequence=6, expires_ms=NOW_MS + 86_400_000)), "more than 24 h", id="for ever"),
        pytest.param(
            signed(said(sequence=6, regulation=Regulation(signal_e6=-1_000_001))),
            "more than all",
            id="beyond all",
        ),
    ],
)
def test_what_is_refused_goes_nowhere_and_changes_nothing(data: bytes, reason: str) -> None:
    site = Site()
    site.door.receive("vpp.group.north.regulation", signed(said()))
    site.door.receive("vpp.group.north.regulation", data)
    assert len(site.refused) == 1
    assert reason in site.refused[0]
    site.door.receive("vpp.group.north.regulation", signed(said(sequence=6)))
    assert site.forwarded == [("regulation", 5), ("regulation", 6)]


@pytest.mark.parametrize(
    "price", [Price(ticks=1, step_share_e6=1_000_001), Price(ticks=1, tick_fraction_e6=1_000_000)], ids=["step", "tick"]
)
def test_a_share_beyond_all_of_it_is_refused(price: Price) -> None:
    site = Site()
    site.door.receive("vpp.group.north.price", signed(said(price=price)))
    assert (site.forwarded, len(site.refused)) == ([], 1)


def test_each_group_has_an_order_of_its_own_over_all_kinds() -> None:
    site = Site()
    site.door.receive("vpp.group.north.regulation", signed(said(sequence=9)))
    site.door.receive("vpp.group.south.regulation", signed(said(group="south", sequence=1)))
    site.door.receive("vpp.group.north.price", signed(said(sequence=8, price=Price(ticks=1))))
    assert site.forwarded == [("regulation", 9), ("regulation", 1)]
    assert "not newer than 9" in site.refused[0]


def test_what_is_signed_for_another_group_is_not_for_this_site() -> None:
    """A broker that sends it here could stop a site with another's stop."""
    site = Site()
    stop = said(group="east", stop=StopOrder(stop=True))
    site.door.receive("vpp.group.east.stop", signed(stop))
    assert site.forwarded == []
    assert "not in group east" in site.refused[0]
    site.door.groups = ["east"]
    site.door.receive("vpp.group.east.stop", signed(stop))
    assert site.forwarded == [("stop", 5)]


def test_a_flood_of_refusals_is_told_once_a_minute_with_its_number() -> None:
    site = Site()
    for _ in range(1000):
        site.door.receive("vpp.group.north.regulation", b"\xff")
    assert len(site.refused) == 1
    site.clock.now_ms += 60_000
    site.door.receive("vpp.group.north.regulation", b"\xff")
    assert "999 more" in site.refused[1]
