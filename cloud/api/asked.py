"""What every site was asked last, from the ledger's intents: its schedule and the service it is to hold ready."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from cloud.model.records import IntentRecord, IntentState, Site

Floats = npt.NDArray[np.float64]
Milliseconds = npt.NDArray[np.int64]


class _Schedule(msgspec.Struct, frozen=True):
    start_ms: int
    mtu_s: int
    inverter_power_w: list[int]


class _Arm(msgspec.Struct, frozen=True):
    service_id: str
    service_toml: str
    contracted_w: int = 0  # protobuf JSON leaves zeros out
    group: str = ""


class _Body(msgspec.Struct, frozen=True):
    """The intent's body as protobuf JSON, as far as the console looks into it. 64-bit numbers are strings there."""

    schedule: _Schedule | None = None
    arm: _Arm | None = None


_BODY = msgspec.json.Decoder(_Body, strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSchedule:
    """Inverter power a site is to follow, positive towards the grid."""

    slot: int
    valid_from_ms: int
    expires_ms: int
    start_ms: int
    mtu_ms: int
    power_w: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedService:
    """A service a site is to hold ready."""

    slot: int
    valid_from_ms: int
    expires_ms: int
    state: IntentState
    service_id: str
    service_toml: str
    contracted_w: int  # magnitude
    rating_w: float  # the inverter's; the contracted power where the site has told nothing of itself
    soc_min: float = 0.0  # the owner's limits
    soc_max: float = 1.0
    capacity_wh: float = 0.0  # 0: no storage, or nothing told
    group: str = ""  # whose regulation signal is followed


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the fleet: the newest intent of each kind, where it was not refused or released."""

    schedules: tuple[AskedSchedule, ...] = ()
    services: tuple[AskedService, ...] = ()


def asked(sites: Sequence[Site], intents: Sequence[IntentRecord]) -> Asked:
    """What `intents`, the newest of each site and kind, ask of `sites`. A refused service is kept, to be shown."""
    by_name = {site.site: site for site in sites}
    schedules, held = [], []
    for intent in intents:
        site = by_name.get(intent.site)
        if site is None or intent.state in {IntentState.EXPIRED, IntentState.RELEASED}:
            continue
        body = _BODY.decode(intent.body)
        if body.schedule is not None and intent.state is not IntentState.REFUSED:
            schedules.append(
                AskedSchedule(
                    slot=site.slot,
                    valid_from_ms=intent.valid_from_ms,
                    expires_ms=intent.expires_ms,
                    start_ms=body.schedule.start_ms,
                    mtu_ms=body.schedule.mtu_s * 1000,
                    power_w=np.asarray(body.schedule.inverter_power_w, dtype=np.float64),
                )
            )
        if body.arm is not None:
            told = site.description
            held.append(
                AskedService(
                    slot=site.slot,
                    valid_from_ms=intent.valid_from_ms,
                    expires_ms=intent.expires_ms,
                    state=intent.state,
                    service_id=body.arm.service_id,
                    service_toml=body.arm.service_toml,
                    contracted_w=body.arm.contracted_w,
                    rating_w=told.rated_power_w if told else float(body.arm.contracted_w),
                    soc_min=told.soc_min if told else 0.0,
                    soc_max=told.soc_max if told else 1.0,
                    capacity_wh=told.storage_capacity_wh if told else 0.0,
                    group=body.arm.group,
                )
            )
    return Asked(tuple(schedules), tuple(held))
