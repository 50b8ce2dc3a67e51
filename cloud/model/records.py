"""Rows of the ledger as frozen values: who stands where, what was asked, sold and paid.

Times are UTC milliseconds since 1970 (`_ms`). Power is positive towards the grid; ratings, reserves and contracted
powers are magnitudes. Money is Decimal, in the currency that stands beside it.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from protos import subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What stands at a site, as its agent told at its last start."""

    agent_version: str
    rated_power_w: float  # inverter's AC rating
    max_charge_w: float  # 0 without storage
    max_discharge_w: float  # 0 without storage
    storage_capacity_wh: float  # 0 without storage
    soc_min: float  # 0..1
    soc_max: float  # 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A site in the registry."""

    slot: int  # dense, from 0; Frame.site of all it sends; never given to another
    site: str
    groups: tuple[str, ...]
    created_ms: int
    enrolled_ms: int | None = None
    description: Description | None = None
    revoked_ms: int | None = None  # its gateway is shut out since; enrolling another one ends it
    revoked_reason: str | None = None
    remote_revision: int | None = None  # of what was set from afar; None: nothing ever was
    remote_toml: str | None = None  # protos/remote.py
    concentrator: str | None = None  # a site of the registry that may send this one's telemetry, in batches
    gateway_keys: str | None = None  # SHA-256 (hex) of its certificate's public key, and of the one before, by comma

    @property
    def partition_token(self) -> str:
        """ "<partition>.<site>", the last two tokens of the site's own subjects."""
        return subjects.partition_token(self.site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A one-time right to enrol as a site. The token itself is kept nowhere."""

    token_hash: str  # SHA-256 of the token, hex
    site: str
    created_ms: int
    expires_ms: int
    used_ms: int | None = None
    used_by: str | None = None  # SHA-256 of the public keys that enrolled by it, hex
    requests: str | None = None  # what was answered: each request's SHA-256, shortened, by comma


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsKey:
    """A key under which a site may be at the broker."""

    nats_public_key: str
    site: str
    issued_ms: int  # of the newest credentials for it
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A broker key that is refused, in credentials that were issued up to `revoked_ms`."""

    nats_public_key: str
    site: str
    revoked_ms: int
    expires_ms: int  # of the credentials: afterwards they are refused for their age
    reason: str


NOT_SENT: Final = "the broker did not take it"


class IntentState(StrEnum):
    """What became of an intent, as far as the coordinator knows."""

    ISSUED = "issued"  # sent, nothing heard yet
    RECEIVED = "received"  # at the gateway, not yet checked
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ACTIVE = "active"
    EXPIRED = "expired"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecord:
    """An intent that was sent to a site."""

    site: str
    kind: str  # as in protos.subjects.INTENT_KINDS
    sequence: int  # per site and kind, from 1
    issued_ms: int
    valid_from_ms: int
    expires_ms: int
    body: str  # the intent's body as protobuf JSON
    state: IntentState = IntentState.ISSUED
    reason: str = ""
    updated_ms: int

    def in_force(self, now_ms: int) -> bool:
        """Whether the site is to have it, if it is the newest of its kind.

        Also when the site refused: what it refused may have been somebody else's forgery of the same number.
        """
        if self.expires_ms <= now_ms or self.state in (IntentState.EXPIRED, IntentState.RELEASED):
            return False
        return not (self.state is IntentState.REFUSED and self.reason == NOT_SENT)


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinnedFrames:
    """Telemetry frames that never come: the site merged them into later ones for want of room."""

    site: str
    event_id: str  # of the site's event that told it
    at_ms: int
    frames: int
    runs: tuple[tuple[int, int], ...]  # first and last number of each run, ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something a person may want to know, from a site or from the coordinator itself."""

    site: str | None  # None: the coordinator
    event_id: str  # unique per site; a second copy is dropped
    at_ms: int
    severity: Severity
    code: str  # stable, e.g. "service.triggered"
    text: str  # one line
    number: int | None = None  # in order of recording; given by the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlan:
    """One site's part of a plan: a value per market time unit in every tuple but `soc`."""

    site: str
    inverter_power_w: tuple[int, ...]  # scheduled, positive towards the grid
    load_w: tuple[float, ...]  # forecast consumption, magnitude
    pv_w: tuple[float, ...]  # forecast PV generation, magnitude
    soc: tuple[float, ...]  # expected, 0..1, at the beginning of each unit and at the end of the last
    reserve_w: tuple[int, ...]  # held back for reserve, magnitude
    # Of energy in the storage at each unit's end [0.01 currency/MWh]; empty: not known.
    stored_value_ticks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """Schedules that were solved together."""

    plan_id: str
    created_ms: int
    start_ms: int  # beginning of the first market time unit
    mtu_s: int  # length of a market time unit
    sites: tuple[SitePlan, ...]


class SessionStage(StrEnum):
    """How far the desk has come with a market session."""

    SEEN = "seen"
    OFFERED = "offered"
    AWARDED = "awarded"
    ARMED = "armed"
    SETTLED = "settled"
    PASSED = "passed"  # nothing was offered or won


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSession:
    """An auction the desk takes part in."""

    session_id: str
    gate_closure_ms: int
    delivery_start_ms: int
    delivery_end_ms: int
    stage: SessionStage
    plan_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRecord:
    """Reserve that was offered."""

    offer_id: str
    session_id: str
    product: str
    service_id: str
    group: str
    power_w: int  # magnitude
    price_per_mw_h: Decimal
    currency: str
    created_ms: int


class AwardState(StrEnum):
    AWARDED = "awarded"
    ARMED = "armed"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwardRecord:
    """Reserve that was sold."""

    award_id: str
    session_id: str
    offer_id: str
    product: str
    service_id: str
    service_toml: str  # the whole service as sold: run, judged and settled by this text
    group: str
    power_w: int  # magnitude
    clearing_price_per_mw_h: Decimal
    currency: str
    delivery_start_ms: int
    delivery_end_ms: int
    state: AwardState = AwardState.AWARDED


@dataclass(frozen=True, slots=True, kw_only=True)
class AwardShare:
    """A site's part of an award. The parts of an award sum to its power."""

    award_id: str
    site: str
    contracted_w: int  # magnitude


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an award came to: exactly the sum of its lines."""

    award_id: str
    settled_ms: int
    currency: str
    capacity_amount: Decimal  # for being ready, after the performance factor
    energy_amount: Decimal  # for energy delivered, by the tariff
    total_amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLine:
    """A site's part of a settlement."""

    award_id: str
    site: str
    contracted_w: int  # magnitude
    capacity_wh: int  # contracted power times delivery time
    performance_error: float  # mean distance from what was due, share of the contracted power
    performance_factor: Decimal  # 0..1, of the capacity price
    delivered: bool  # within the service's limits
    samples: int  # judged
    samples_missing: int  # not measured
    energy_wh: int  # delivered beyond the baseline, positive towards the grid
    capacity_amount: Decimal
    energy_amount: Decimal
    total_amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who may log in to the console."""

    username: str
    password_hash: str | None  # argon2, in its own text form; None: only by a one-time link
    roles: tuple[str, ...]
    created_ms: int
    disabled_ms: int | None = None
    totp_secret: str | None = None  # sealed; None: no second factor
    totp_confirmed_ms: int | None = None  # a first code was typed: from then on it is asked for
    totp_last_step: int | None = None  # of the last code that was taken; each is good once

    @property
    def second_factor(self) -> bool:
        return self.totp_secret is not None and self.totp_confirmed_ms is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogInSession:
    """A browser that is logged in."""

    session_hash: str  # SHA-256 of the cookie's value, hex
    username: str
    created_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A program that may call the API."""

    token_hash: str  # SHA-256 of the token, hex
    name: str
    scopes: tuple[str, ...]
    created_by: str
    created_ms: int
    expires_ms: int
    revoked_ms: int | None = None
    used_ms: int | None = None  # last seen, to the minute


@dataclass(frozen=True, slots=True, kw_only=True)
class LogInToken:
    """A one-time log-in link."""

    token_hash: str  # SHA-256 of the token, hex
    username: str
    created_ms: int
    expires_ms: int
    used_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOffset:
    """How far a stream has been read into the ledger."""

    stream: str
    created_ns: int  # the stream's creation: a stream made anew begins at 1 again
    last_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A time in which one process led."""

    term: int  # from 1
    holder: str
    bucket_created_ms: int  # of the leases' bucket, and the lease's revision in it when it was taken: the fence
    revision: int
    began_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Left behind in a ledger that was moved: what it holds is the past, the present is there."""

    number: int  # always 1
    place: str  # a postgresql:// address, or sqlite: and a path
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A published update: its manifest and the signature under it."""

    digest: str  # SHA-256 of the manifest, hex
    kind: str  # "agent", "firmware" or "model"
    name: str
    version: str  # "major.minor.patch"
    manifest: str  # as protos.manifest has it
    signature: str  # Ed25519, hex
    key_id: str  # of the key that signed, hex
    published_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteUpdate:
    """The update that a site is to have, of one kind and name, and how far it has come."""

    site: str
    kind: str
    name: str
    digest: str
    ordered_ms: int
    state: str = "ordered"  # then as vpp.v1.UpdateStatus.State has it: "fetching", "staged", "healthy" and so on
    reason: str = ""
    updated_ms: int
