"""Who can take part now, and with what; who cannot, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cloud.config import OfferConfig
from cloud.markets.planning import HISTORY_DAYS, SiteState
from cloud.model.records import Site
from cloud.store.history import HistorySlice
from cloud.store.quarters import QuarterHours

ONLINE_WITHIN_MS = 15_000
DAY_MS = 86_400_000


Array = np.ndarray[Any, np.dtype[Any]]


class Fleet(Protocol):
    """What of cloud.fleet.state.FleetState the desk reads: columns by slot."""

    @property
    def soc(self) -> Array:
        """0..1, NaN where not known."""
        ...

    @property
    def last_seen_ms(self) -> Array:
        """UTC of the newest sample, 0 for none."""
        ...

    @property
    def gaps(self) -> Array:
        """Frames missing now, below the newest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSites:
    """The fleet at one moment."""

    soc: Array
    last_seen_ms: Array
    now_ms: int


class History(Protocol):
    """The part of cloud.store.history.History the desk reads."""

    def quarter_hours(self, slot: int, t0_ms: int, t1_ms: int) -> QuarterHours: ...

    def read(self, slots: Sequence[int], t0_ms: int, t1_ms: int, points: Sequence[str]) -> HistorySlice: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A site that takes part, and what of it is offered."""

    state: SiteState
    offer: OfferConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    members: tuple[Member, ...]
    left_out: dict[str, str]  # site -> why


def offer_of(site: Site, offers: Sequence[OfferConfig]) -> OfferConfig | None:
    """What the site's power is sold as: the first configured offer to one of its groups. Power is sold once."""
    return next((offer for offer in offers if offer.group in site.groups), None)


def call_roll(
    sites: Sequence[Site], offers: Sequence[OfferConfig], live: LiveSites, history: History, start_ms: int
) -> Roster:
    """Every site that could deliver from `start_ms` on, with its past; and why the others could not."""
    members: list[Member] = []
    left_out: dict[str, str] = {}
    for site in sites:
        offer = offer_of(site, offers)
        reason = "none of its groups is offered" if offer is None else _cannot(site, live)
        if offer is None or reason or site.description is None:
            left_out[site.site] = reason
            continue
        past = history.quarter_hours(site.slot, start_ms - HISTORY_DAYS * DAY_MS, start_ms)
        if not np.isfinite(past.load_wh).any() or not np.isfinite(past.pv_wh).any():
            left_out[site.site] = "no history to forecast from: import one with vpp-cloud history import"
            continue
        state = SiteState(
            site=site.site,
            description=site.description,
            soc=float(live.soc[site.slot]),
            load_wh=past.load_wh,
            pv_wh=past.pv_wh,
        )
        members.append(Member(state=state, offer=offer))
    return Roster(members=tuple(members), left_out=left_out)


def _cannot(site: Site, live: LiveSites) -> str:
    """Why the site cannot deliver; empty where it can."""
    if site.enrolled_ms is None:
        return "not enrolled"
    if site.revoked_ms is not None:
        return "revoked"
    if site.description is None:
        return "its agent has not told yet what stands there"
    if site.description.storage_capacity_wh <= 0:
        return "no storage"
    if site.slot >= len(live.last_seen_ms) or live.last_seen_ms[site.slot] <= 0:
        return "never heard of"
    if (silent_ms := live.now_ms - int(live.last_seen_ms[site.slot])) > ONLINE_WITHIN_MS:
        return f"not online: silent for {silent_ms / 1000:.0f} s"
    if not 0 <= live.soc[site.slot] <= 1:
        return "state of charge is not known"
    return ""
