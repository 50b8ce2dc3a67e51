"""What people and programs ask of groups and sites: checked and written into the ledger, by command, page or API alike.

The coordinator that leads carries it out within a cycle (`dispatcher.py`).
"""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cloud.model.dispatch import Activation, ActivationState, DispatchRefused, GroupLimit, Order
from cloud.model.records import Site
from cloud.store.ledger import Ledger
from protos.vpp.v1 import intent_pb2

MOST_W: Final = 2**31 - 1
LONGEST_MINUTES: Final = 24 * 60.0
_MINUTE_MS: Final = 60_000
_TICK_MS: Final = 10_000
_MARKED: Final = 50  # as many as the page shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Limits at the grid meter for a time; magnitudes."""

    start_ms: int
    minutes: float
    import_limit_w: int
    export_limit_w: int


@dataclass(frozen=True, slots=True)
class OrderState:
    """An order, and what became of it: waiting, failed, sent, or the state of the intent that it became."""

    order: Order
    state: str
    reason: str


def activation(
    *,
    group: str,
    power_w: int,
    minutes: float,
    reason: str,
    actor: str,
    now_ms: int,
    in_minutes: float = 0.0,
    source: str = "own",
) -> Activation:
    """One to be given to `Ledger.add_activation`. power_w: positive towards the grid. Raises DispatchRefused."""
    _check(power_w, minutes)
    if not 0 <= in_minutes <= LONGEST_MINUTES:
        raise DispatchRefused(f"it begins in {in_minutes:g} minutes: give 0 to {LONGEST_MINUTES:.0f}")
    start_ms = now_ms + round(_MINUTE_MS * in_minutes)
    return Activation(
        activation_id=f"act-{secrets.token_hex(4)}",
        group=group,
        target_w=power_w,
        start_ms=start_ms,
        end_ms=start_ms + round(_MINUTE_MS * minutes),
        source=source,
        reason=checked_reason(reason),
        actor=actor,
        created_ms=now_ms,
    )


def setpoints(
    sites: Iterable[str], *, power_w: int, minutes: float, reason: str, actor: str, now_ms: int
) -> list[Order]:
    """An order for each site, to be given to `give`. power_w: positive towards the grid. Raises DispatchRefused."""
    _check(power_w, minutes)
    body = intent_pb2.PowerSetpoint(inverter_power_w=power_w, reason=checked_reason(reason))
    end_ms = now_ms + round(_MINUTE_MS * minutes)
    return [order(site, "setpoint", body, now_ms, end_ms, actor, now_ms) for site in dict.fromkeys(sites)]


def order(
    site: str,
    kind: str,
    body: intent_pb2.PowerSetpoint | intent_pb2.Envelope,
    begin_ms: int,
    end_ms: int,
    actor: str,
    now_ms: int,
) -> Order:
    from cloud.gateway.intents import body_text

    return Order(
        order_id=f"ord-{secrets.token_hex(6)}",
        site=site,
        kind=kind,
        body=body_text(body),
        valid_from_ms=begin_ms,
        expires_ms=end_ms,
        actor=actor,
        created_ms=now_ms,
    )


def give_limits(ledger: Ledger, kind: str, name: str, units: Sequence[Unit], *, actor: str, now_ms: int) -> int:
    """What may be exchanged with the grid, unit by unit; how many sites get an order, 0 where a group is limited.

    kind: "site", "each-of" (every site of a group), or "group" (its sites together).
    Raises DispatchRefused, LedgerError.
    """
    if kind == "group":
        for unit in units:
            ledger.add_group_limit(
                GroupLimit(
                    limit_id=f"lim-{secrets.token_hex(6)}",
                    group=name,
                    start_ms=unit.start_ms,
                    end_ms=unit.start_ms + round(_MINUTE_MS * unit.minutes),
                    import_limit_w=unit.import_limit_w,
                    export_limit_w=unit.export_limit_w,
                    actor=actor,
                    created_ms=now_ms,
                )
            )
        return 0
    sites = [name] if kind == "site" else [site.site for site in ledger.sites() if name in site.groups]
    if not sites:
        raise DispatchRefused(f"group {name!r} has no site: see vpp-cloud site list")
    start_ms, unit_ms = units[0].start_ms, round(_MINUTE_MS * units[0].minutes)
    for number, unit in enumerate(units):
        if unit.start_ms != start_ms + number * unit_ms or round(_MINUTE_MS * unit.minutes) != unit_ms:
            raise DispatchRefused(f"limits of {name}: rows follow each other without a gap, all of one length")
    body = intent_pb2.Envelope(
        envelope_id=f"env-{secrets.token_hex(6)}",
        start_ms=start_ms,
        mtu_s=unit_ms // 1000,
        import_limit_w=[unit.import_limit_w for unit in units],
        export_limit_w=[unit.export_limit_w for unit in units],
    )
    begin_ms, end_ms = min(start_ms, now_ms), start_ms + len(units) * unit_ms
    give(ledger, [order(site, "envelope", body, begin_ms, end_ms, actor, now_ms) for site in sites])
    return len(sites)


def mark(ledger: Ledger, now_ms: int) -> str:
    """Is another where anything that was asked, granted or became of it is another; while something runs every 10 s."""
    activations = ledger.activations(limit=_MARKED)
    runs = any(each.state is ActivationState.ACTIVE for each in activations)
    shown = (
        activations,
        order_states(ledger, _MARKED),
        [(each, each.state(now_ms)) for each in ledger.recent_approvals(now_ms)],
        ledger.group_limits(now_ms),
        now_ms // _TICK_MS if runs else 0,
    )
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def give(ledger: Ledger, orders: Sequence[Order]) -> None:
    """All of them or none. Raises LedgerError."""
    with ledger.transaction():
        for each in orders:
            ledger.add_order(each)


def order_states(ledger: Ledger, limit: int = 200) -> list[OrderState]:
    """The last orders, newest first."""
    return [_state(ledger, each) for each in ledger.orders(limit=limit)]


def _state(ledger: Ledger, given: Order) -> OrderState:
    if given.problem:
        return OrderState(given, "failed", given.problem)
    if given.sequence is None:
        return OrderState(given, "waiting", "")
    intent = ledger.intent(given.site, given.kind, given.sequence)
    return OrderState(given, str(intent.state), intent.reason) if intent else OrderState(given, "sent", "")


def whom(
    known: Sequence[Site], sites: Sequence[str], groups: Sequence[str], *, everybody: bool
) -> tuple[list[str], list[str]]:
    """Sites, those of the groups among them, and groups that an emergency stop goes to. Raises DispatchRefused.

    known: the registry.
    """
    if everybody == bool(sites or groups):
        raise DispatchRefused("stop: whom? name sites or groups, or else all")
    if everybody:
        return [site.site for site in known], sorted({group for site in known for group in site.groups})
    names = {site.site for site in known}
    if unknown := [site for site in sites if site not in names]:
        raise DispatchRefused(f"site {unknown[0]!r} is unknown: see vpp-cloud site list; nothing was stopped")
    for group in groups:
        if not any(group in site.groups for site in known):
            raise DispatchRefused(f"group {group!r} has no site: see vpp-cloud site list; nothing was stopped")
    members = [site.site for site in known if set(site.groups) & set(groups)]
    return list(dict.fromkeys([*sites, *members])), list(dict.fromkeys(groups))


def checked_reason(reason: str) -> str:
    """Without spaces around. Raises DispatchRefused for one that is empty."""
    if not reason.strip():
        raise DispatchRefused("the reason is empty: say why, people read it")
    return reason.strip()


def _check(power_w: int, minutes: float) -> None:
    if abs(power_w) > MOST_W:
        raise DispatchRefused(f"{power_w} W: at most {MOST_W} W")
    if not 0 < minutes <= LONGEST_MINUTES:
        raise DispatchRefused(f"{minutes:g} minutes: give more than 0 and at most {LONGEST_MINUTES:.0f}")
