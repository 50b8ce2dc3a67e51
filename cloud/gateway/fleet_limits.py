"""The fleet guard's limits: asked for by the configuration, in force once a second person has granted them."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cloud.config import FleetGuardConfig
from cloud.dispatch.fleet_guard import AreaLimits
from cloud.gateway.fleet_guard import ELSEWHERE, FleetGuard
from cloud.model.approval import Limits
from cloud.store.approvals import FLEET
from cloud.store.ledger import Ledger

log = logging.getLogger(__name__)

_LOOK_S: Final = 5.0


def settle(config: FleetGuardConfig, ledger: Ledger, now_ms: int, asked_by: str) -> tuple[FleetGuardConfig, list[str]]:
    """The limits in force, and what the person at the start has to know.

    The first ones of a ledger are those of whoever installs it. Others than are in force are asked for.
    """
    text = msgspec.json.encode(config).decode()
    told: list[str] = []
    with ledger.transaction():
        before = in_force(ledger)
        if before is None:
            ledger.set_fleet_limits(text, now_ms, asked_by)
        elif before != config:
            reason = changes(before, config)
            asked = ledger.ask_change(Limits.FLEET, FLEET, text, reason, now_ms, asked_by)
            told.append(
                f"[fleet_guard] was changed: {reason}; the limits of before stay in force until somebody else than "
                f"{asked.asked_by} grants it: vpp-cloud approve grant {asked.number}"
            )
        limits = before or config
        if limits.single_operator:
            ledger.audit("approvals.single_operator", actor=asked_by, subject=FLEET, at_ms=now_ms)
            told.append("[fleet_guard] single_operator = true: whoever asks for something may grant it himself")
    return limits, told


def areas(config: FleetGuardConfig) -> tuple[dict[str, AreaLimits], dict[str, str]]:
    """Each area's limits, and each group's area."""
    named = {area.name: area for area in config.areas}
    limits = {
        name: AreaLimits(
            step_w=area.step_w, ramp_w_per_min=area.ramp_w_per_min, turns_per_hour=area.direction_changes_per_hour
        )
        for name, area in {ELSEWHERE: config.elsewhere, **named}.items()
    }
    return limits, {group: area.name for area in config.areas for group in area.groups}


async def follow(guard: FleetGuard, ledger: Ledger, limits: FleetGuardConfig) -> None:
    """Takes up, for ever, what is granted beside this process. limits: those that the guard judges by."""
    while True:
        await asyncio.sleep(_LOOK_S)
        limits = await asyncio.to_thread(take_up, guard, ledger, limits)


def take_up(guard: FleetGuard, ledger: Ledger, before: FleetGuardConfig) -> FleetGuardConfig:
    """The limits in force now; the guard judges by them."""
    granted = in_force(ledger) or before
    if granted != before:
        log.warning("limits of the fleet guard were granted: %s", changes(before, granted))
        guard.use(*areas(granted))
    return granted


def in_force(ledger: Ledger) -> FleetGuardConfig | None:
    """None before the first start of a coordinator."""
    text = ledger.fleet_limits()
    return msgspec.json.decode(text, type=FleetGuardConfig) if text is not None else None


def changes(before: FleetGuardConfig, after: FleetGuardConfig) -> str:
    """In words: each key that differs, with both values."""
    old, new = _flat(msgspec.to_builtins(before)), _flat(msgspec.to_builtins(after))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key, 'none')} -> {new.get(key, 'none')}" for key in keys)


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    match value:
        case Mapping():
            found: dict[str, Any] = {}
            for key, each in value.items():
                found |= _flat(each, f"{at}.{key}" if at else key)
            return found
        case [*areas_] if areas_ and isinstance(areas_[0], Mapping):
            return _flat({area["name"]: area for area in areas_}, at)
        case list() | tuple():
            return {at: " ".join(map(str, value))} if value else {}
        case float():
            return {at: f"{value:.15g}"}
        case _:
            return {at: str(value).lower() if isinstance(value, bool) else str(value)}
