"""Which intents are believed."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge_agent.sync.intents import MAX_REFUSALS_A_MINUTE, CommandKeys, IntentDoor
from edge_agent.sync.journal import Journal
from edge_agent.sync.state import State
from protos import services
from protos.vpp.v1.intent_pb2 import ArmService, Intent, Release, Schedule, SignedIntent, StopOrder
from protos.vpp.v1.report_pb2 import Acknowledgement

NOW_MS = 1_700_000_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
SERVICE = (Path(services.__file__).parent / "ercot-ffr.toml").read_text(encoding="utf-8")
VERSION = services.parse(SERVICE).version


class Clock:
    now_ms = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000


def intent(**changed: object) -> Intent:
    fields: dict[str, object] = {
        "site": "home-01",
        "sequence": 5,
        "issued_ms": NOW_MS - 100,
        "valid_from_ms": NOW_MS + 1_000,
        "expires_ms": NOW_MS + 60_000,
    }
    fields.update(changed)
    if not {"schedule", "arm", "release", "stop"} & fields.keys():
        fields["arm"] = arm()
    return Intent(**fields)  # type: ignore[arg-type]


def arm(**changed: object) -> ArmService:
    fields: dict[str, object] = {
        "award_id": "a",
        "service_id": "ercot-ffr",
        "service_version": VERSION,
        "contracted_w": 3000,
        "service_toml": SERVICE,
    }
    return ArmService(**{**fields, **changed})  # type: ignore[arg-type]


def signed(message: Intent, key: Ed25519PrivateKey = KEY, key_id: bytes | None = None) -> bytes:
    data = message.SerializeToString()
    if key_id is None:
        key_id = hashlib.sha256(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()[:8]
    return SignedIntent(intent=data, signature=key.sign(data), key_id=key_id).SerializeToString()


@dataclass
class Site:
    """An IntentDoor with what stands behind it."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    forwarded: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = State(self.folder)
        self.journal = Journal(self.folder, "home-01", self.state, self.clock)
        self.door = IntentDoor(
            site="home-01",
            keys=CommandKeys([PUBLIC]),
            state=self.state,
            journal=self.journal,
            clock=self.clock,
            forward=lambda kind, message: self.forwarded.append((kind, message.sequence)),
            wake=lambda: None,
        )

    def restarted(self) -> "Site":
        self.journal.close()
        return Site(self.folder, self.clock)

    def said(self) -> list[tuple[int, str]]:
        """(sequence, "received" or the reason) of the acknowledgements written since the last call."""
        out = []
        while (report := self.journal.oldest_report()) is not None:
            done = Acknowledgement.FromString(report.body)
            assert (done.site, done.event_id) == ("home-01", report.event_id)
            received = done.state == Acknowledgement.STATE_RECEIVED
            assert received or done.state == Acknowledgement.STATE_REFUSED
            out.append((done.sequence, "received" if received else done.reason))
            self.journal.report_acknowledged(report)
        return out


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        pytest.param("service", intent(), id="arm"),
        pytest.param("service", intent(release=Release(award_id="a")), id="release"),
        pytest.param("schedule", intent(schedule=Schedule(mtu_s=900, inverter_power_w=[1000, -500])), id="schedule"),
        pytest.param("service", intent(valid_from_ms=NOW_MS - 5_000), id="valid already"),
    ],
)
def test_good_intents_go_to_control_and_are_acknowledged(site: Site, kind: str, message: Intent) -> None:
    site.door.receive(kind, signed(message), live=True)
    assert site.forwarded == [(kind, 5)]
    assert site.said() == [(5, "received")]


OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        pytest.param("service", b"\xff\xff", "no signed intent", id="garbage"),
        pytest.param("service", b'{"stream":"TEL_0","seq":1}', "no signed intent", id="a spoofed reply: a PubAck"),
        pytest.param("service", signed(intent(), OTHER), "unknown key", id="another key"),
        pytest.param(
            "service",
            signed(intent(), OTHER, hashlib.sha256(PUBLIC).digest()[:8]),
            "signature is wrong",
            id="another key under our key's name",
        ),
        pytest.param("service", signed(intent(site="home-02")), "for site 'home-02'", id="another site's"),
        pytest.param("schedule", signed(intent()), "came as kind schedule", id="body of another kind"),
        pytest.param(
            "service",
            signed(Intent(site="home-01", sequence=5, expires_ms=NOW_MS + 60_000)),
            "of an unknown kind",
            id="no body",
        ),
        pytest.param("service", signed(intent(expires_ms=NOW_MS + 1_500)), "expired", id="expires within clock error"),
        pytest.param(
            "service", signed(intent(valid_from_ms=NOW_MS - 9_000, expires_ms=NOW_MS - 1)), "expired", id="expired"
        ),
        pytest.param(
            "service", signed(intent(valid_from_ms=NOW_MS + 60_000)), "ends before it begins", id="empty validity"
        ),
        pytest.param(
            "service",
            signed(intent(valid_from_ms=NOW_MS + 8 * 86_400_000, expires_ms=NOW_MS + 9 * 86_400_000)),
            "7 days ahead",
            id="far ahead",
        ),
        pytest.param("service", signed(intent(issued_ms=NOW_MS + 30_000)), "clock is slow", id="issued in the future"),
        pytest.param("service", signed(intent(arm=arm(service_toml="x ="))), "service:", id="service text broken"),
        pytest.param("service", signed(intent(arm=arm(service_id="other"))), "it names other", id="another service"),
        pytest.param("service", signed(intent(arm=arm(contracted_w=0))), "no power", id="no power"),
        pytest.param("schedule", signed(intent(schedule=Schedule(mtu_s=900))), "0 market time units", id="no schedule"),
        pytest.param(
            "schedule", signed(intent(schedule=Schedule(inverter_power_w=[1]))), "unit of 0 s", id="no time unit"
        ),
    ],
)
def test_bad_intents_are_refused_with_the_reason_once(site: Site, kind: str, data: bytes, reason: str) -> None:
    site.door.receive(kind, data, live=True)
    site.door.receive(kind, data, live=True)
    assert site.forwarded == []
    [(_, said)] = site.said()
    assert reason in said


def test_nothing_is_timed_by_a_clock_that_is_too_uncertain_but_a_stop_is_obeyed(site: Site) -> None:
    site.door.clock_error_ms = 61_000.0
    site.door.receive("service", signed(intent(expires_ms=NOW_MS + 3_600_000)), live=True)
    stop = intent(expires_ms=NOW_MS + 3_600_000, stop=StopOrder(stop=True, reason="smoke"))
    site.door.receive("stop", signed(stop), live=True)
    assert site.forwarded == [("stop", 5)]
    [(_, refused), (_, accepted)] = site.said()
    assert "clock is too uncertain" in refused
    assert accepted == "received"


def test_an_accepted_intent_that_is_replayed_moves_nothing(site: Site) -> None:
    first, second = signed(intent(sequence=5)), signed(intent(sequence=6))
    for data in (first, second, first, first, second):
        site.door.receive("service", data, live=True)
    assert site.forwarded == [("service", 5), ("service", 6)]
    again = site.restarted()
    again.door.receive("service", first, live=True)
    assert again.forwarded == []
    assert [(sequence, "newer" in text) for sequence, text in again.said()] == [(5, False), (6, False), (5, True)]


def test_a_tampered_intent_is_refused(site: Site) -> None:
    envelope = SignedIntent.FromString(signed(intent()))
    inner = Intent.FromString(envelope.intent)
    inner.arm.contracted_w = 9000
    envelope.intent = inner.SerializeToString()
    site.door.receive("service", envelope.SerializeToString(), live=True)
    assert (site.forwarded, site.said()) == ([], [(5, "the signature is wrong")])


def test_only_newer_sequences_are_accepted_per_kind(site: Site) -> None:
    schedule = Schedule(mtu_s=900, inverter_power_w=[1])
    site.door.receive("service", signed(intent(sequence=5)), live=True)
    site.door.receive("service", signed(intent(sequence=4)), live=True)
    site.door.receive("schedule", signed(intent(sequence=4, schedule=schedule)), live=True)
    site.door.receive("service", signed(intent(sequence=6)), live=True)
    assert site.forwarded == [("service", 5), ("schedule", 4), ("service", 6)]
    assert [(sequence, "newer" in text) for sequence, text in site.said()] == [
        (5, False),
        (4, True),
        (4, False),
        (6, False),
    ]


def test_a_sequence_used_for_something_else_is_refused(site: Site) -> None:
    site.door.receive("service", signed(intent()), live=True)
    site.door.receive("service", signed(intent(arm=arm(contracted_w=9000))), live=True)
    assert site.forwarded == [("service", 5)]
    assert "not newer" in site.said()[-1][1]


def test_after_a_restart_control_is_told_again_without_a_second_acknowledgement(site: Site) -> None:
    data = signed(intent())
    site.door.receive("service", data, live=True)
    assert site.said() == [(5, "received")]
    again = site.restarted()
    again.door.receive("service", data, live=False)
    again.door.receive("service", data, live=False)  # the next reconnect of the same process
    assert again.forwarded == [("service", 5)]
    assert again.said() == []


def test_after_a_restart_older_ones_are_still_refused(site: Site) -> None:
    site.door.receive("service", signed(intent(sequence=5)), live=True)
    site.said()
    again = site.restarted()
    again.door.receive("service", signed(intent(sequence=4)), live=True)
    assert again.forwarded == []
    assert [sequence for sequence, _ in again.said()] == [4]


def test_what_has_run_out_meanwhile_is_not_told_again(site: Site) -> None:
    data = signed(intent())
    site.door.receive("service", data, live=True)
    site.said()
    again = site.restarted()
    again.clock.now_ms = NOW_MS + 60_001
    again.door.receive("service", data, live=False)
    assert (again.forwarded, again.said()) == ([], [])


def test_an_older_one_from_the_store_is_a_race_and_no_attack(site: Site) -> None:
    site.door.receive("service", signed(intent(sequence=6)), live=True)
    site.said()
    site.door.receive("service", signed(intent(sequence=5)), live=False)
    assert (site.forwarded, site.said()) == ([("service", 6)], [])


def test_a_clock_known_to_be_wrong_shortens_what_is_believed(site: Site) -> None:
    site.door.clock_error_ms = 70_000.0
    site.door.receive("service", signed(intent()), live=True)
    assert site.forwarded == []
    assert "expired" in site.said()[0][1]


def test_a_flood_of_forgeries_is_counted_and_told_at_a_bounded_rate(site: Site) -> None:
    for i in range(50):
        site.door.receive("service", b"\xff" + i.to_bytes(2, "big"), live=True)
    assert len(site.said()) == MAX_REFUSALS_A_MINUTE
    assert site.door.refusals_untold == 50 - MAX_REFUSALS_A_MINUTE
    site.clock.now_ms += 61_000
    site.door.receive("service", b"\xff\xff\xff", live=True)
    [(_, text)] = site.said()
    assert f"{50 - MAX_REFUSALS_A_MINUTE} more were refused" in text
    site.door.receive("service", signed(intent(expires_ms=NOW_MS + 120_000)), live=True)
    assert site.forwarded == [("service", 5)]
