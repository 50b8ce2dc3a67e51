"""The operator's page in words: what an order would do, what was asked, and what became of it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.json_format import Parse

from cloud.api.rendering import utc_text
from cloud.dispatch.asking import OrderState
from cloud.gateway.stopping import Told
from cloud.model.dispatch import Activation, ActivationState
from cloud.model.records import IntentRecord, Site
from protos.vpp.v1 import intent_pb2

_WORDS: Final = {"issued": "sent", "active": "applied"}
_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Whom:
    """Whom an emergency stop is for."""

    sites: list[str]
    groups: list[str]
    everybody: bool


@dataclass(frozen=True, slots=True)
class Says:
    """What will happen, and what speaks against it."""

    facts: Sequence[str]
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRow:
    activation: Activation
    expected: str
    measured: str
    when: str
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    site: str
    kind: str
    asked: str
    state: str
    reason: str
    until: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A site whose stop stands."""

    site: str
    since: str
    state: str
    reason: str


def kw(power_w: float) -> str:
    """Signed, positive towards the grid."""
    if abs(power_w) >= 1e6:
        return f"{power_w / 1000:+,.0f} kW"
    return f"{power_w / 1000:+,.1f} kW" if round(power_w / 100) else "0.0 kW"


def of_activation(wanted: Activation, minutes: float, registry: Sequence[Site], measured_w: float | None) -> Says:
    members = [site for site in registry if wanted.group in site.groups]
    taking_part = [site for site in members if site.enrolled_ms is not None and site.revoked_ms is None]
    rated_w = sum(site.description.rated_power_w for site in taking_part if site.description is not None)
    facts = [
        f"{_sites(len(taking_part))} of group {wanted.group} {_be(len(taking_part))} told to hold "
        f"{kw(wanted.target_w)} together, {_direction(wanted.target_w)}.",
        f"It begins with your confirmation and ends {minutes:g} minutes later.",
        f"Their inverters are rated {rated_w / 1000:,.1f} kW together"
        + ("." if measured_w is None else f", and measure {kw(measured_w)} now."),
    ]
    warnings = []
    if not taking_part:
        warnings.append("No site of the group is enrolled: the activation will fail.")
    elif abs(wanted.target_w) > rated_w:
        warnings.append("This is more than the inverters are rated for: expect less.")
    if left := len(members) - len(taking_part):
        warnings.append(f"{_sites(left)} of the group {_be(left)} not enrolled, and left out.")
    return Says(facts, warnings)


def of_setpoint(site: Site, power_w: float, minutes: float, *, stopped: bool) -> Says:
    facts = [
        f"1 site, {site.site}, is told to hold {kw(power_w)} at its inverter, {_direction(power_w)}.",
        f"It begins with your confirmation and ends {minutes:g} minutes later.",
    ]
    warnings = []
    if site.description is not None:
        facts.append(f"The inverter is rated {site.description.rated_power_w / 1000:,.1f} kW.")
        if abs(power_w) > site.description.rated_power_w:
            warnings.append("This is more than the inverter is rated for: expect less, or a refusal.")
    if site.enrolled_ms is None or site.revoked_ms is not None:
        warnings.append("The site is not enrolled: nobody will hear it.")
    if stopped:
        warnings.append("The site is under an emergency stop: it will not move before that is lifted.")
    return Says(facts, warnings)


def of_envelope(
    kind: str, name: str, import_w: float, export_w: float, minutes: float, registry: Sequence[Site]
) -> Says:
    """kind: as in `asking.give_limits`."""
    members = [site for site in registry if (site.site == name if kind == "site" else name in site.groups)]
    limits = f"import up to {import_w / 1000:,.1f} kW and export up to {export_w / 1000:,.1f} kW at"
    match kind:
        case "site":
            first = f"1 site, {name}, may {limits} its grid meter."
        case "each-of":
            first = f"{_sites(len(members))} of group {name} may each {limits} the grid meter."
        case _:
            first = f"{_sites(len(members))} of group {name} may together {limits} their grid meters."
    facts = [first, f"It begins with your confirmation and ends {minutes:g} minutes later."]
    if kind == "group":
        facts.append("It bounds what activations ask of the group; what a site does by itself it does not.")
    else:
        facts.append("Sites obey at once where it is narrower, and let go by their own ramp when it ends.")
    warnings = []
    if missing := [site for site in members if site.enrolled_ms is None or site.revoked_ms is not None]:
        warnings.append(f"{_sites(len(missing))} {_be(len(missing))} not enrolled: nobody will hear it.")
    if kind != "group" and not import_w and not export_w:
        warnings.append("Nothing may be exchanged: batteries rest, and the sun is curtailed to what the homes use.")
    return Says(facts, warnings)


def of_lift(sites: Collection[str], stopped: Collection[str]) -> Says:
    meant = sorted(set(sites) & set(stopped))
    more = f" and {len(meant) - _NAMED} more" if len(meant) > _NAMED else ""
    facts = [
        f"{_sites(len(sites))} {_be(len(sites))} told that the stop is lifted; {len(meant)} of them "
        f"{_be(len(meant))} stopped from here" + (f": {', '.join(meant[:_NAMED])}{more}." if meant else "."),
        "They take part again at once: services that are armed answer, schedules and prices are followed.",
        "A stop that was set at the gateway itself stays until it is lifted there.",
    ]
    return Says(facts, [])


def of_told(told: Told, *, stop: bool) -> tuple[str, str]:
    """What was done, and what was not."""
    what = "Stopped" if stop else "Lifted"
    groups = f"{len(told.groups):,} group{'' if len(told.groups) == 1 else 's'}"
    done = f"{what}: {_sites(len(told.sites))} by an order that the broker keeps, {groups} by broadcast."
    if not told.failures:
        return done, ""
    more = f"; and {len(told.failures) - _NAMED} more" if len(told.failures) > _NAMED else ""
    problem = f"NOT {what.lower()}: {'; '.join(told.failures[:_NAMED])}{more}. Try again"
    if stop:
        problem += ", or stop a site on its own gateway: vpp-agent stop --config FILE --local --reason TEXT"
    return (done if told.sites or told.groups else ""), f"{problem}."


def is_stopped(intent: IntentRecord, now_ms: int) -> bool:
    """Whether the newest stop order of a site stops it, rather than lifting a stop."""
    return intent.in_force(now_ms) and bool(json.loads(intent.body)["stop"].get("stop"))


def stopped(intent: IntentRecord) -> Stopped:
    return Stopped(
        site=intent.site,
        since=utc_text(intent.issued_ms),
        state=_word(str(intent.state)),
        reason=json.loads(intent.body)["stop"].get("reason", ""),
    )


def activation_row(activation: Activation, measured_w: float | None, now_ms: int) -> ActivationRow:
    """measured_w: of its group now."""
    running = activation.state in (ActivationState.ASKED, ActivationState.ACTIVE) and activation.end_ms > now_ms
    expected = measured = "—"
    if activation.state is ActivationState.ACTIVE and measured_w is not None:
        measured = f"{kw(measured_w)} now"
    if activation.measured_wh is not None:
        measured = f"{_kwh(activation.measured_wh)} of {_kwh(activation.target_wh or 0)}"
        expected = _kwh(activation.expected_wh or 0)
    return ActivationRow(
        activation=activation,
        expected=expected,
        measured=measured,
        when=f"{utc_text(activation.start_ms)} to {utc_text(activation.end_ms)[11:]}",
        running=running,
    )


def order_row(told: OrderState) -> OrderRow:
    return OrderRow(
        site=told.order.site,
        kind=told.order.kind,
        asked=_asked(told.order.body),
        state=_word(told.state),
        reason=told.reason,
        until=utc_text(told.order.expires_ms),
        by=told.order.actor,
    )


def _asked(body: str) -> str:
    intent = Parse(body, intent_pb2.Intent())
    match intent.WhichOneof("body"):
        case "setpoint":
            return f"{kw(intent.setpoint.inverter_power_w)}: {intent.setpoint.reason}"
        case "envelope":
            limits = intent.envelope
            steps = f", {len(limits.import_limit_w)} steps" if len(limits.import_limit_w) > 1 else ""
            return (
                f"import up to {limits.import_limit_w[0] / 1000:,.1f} kW, "
                f"export up to {limits.export_limit_w[0] / 1000:,.1f} kW{steps}"
            )
        case other:
            return str(other)


def _word(state: str) -> str:
    return _WORDS.get(state, state)


def _kwh(energy_wh: int) -> str:
    return f"{energy_wh / 1000:,.2f} kWh"


def _sites(count: int) -> str:
    return f"{count:,} site{'' if count == 1 else 's'}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _direction(power_w: float) -> str:
    return "towards the grid" if power_w > 0 else "taken from the grid" if power_w < 0 else "neither way"
