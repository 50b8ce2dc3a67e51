"""Between the agent's values and the messages of protos/vpp/v1: generated classes go no further in than here."""

from collections.abc import Callable, Iterable
from enum import Enum

from edge_agent.model.broadcast import Broadcast, Price, Regulation
from edge_agent.model.clock import Clock
from edge_agent.model.forecast import Expectation
from edge_agent.model.intent import (
    ArmService,
    Body,
    Envelope,
    FollowPrice,
    Intent,
    PowerSetpoint,
    Release,
    Schedule,
    StopOrder,
)
from edge_agent.model.update import Delivered
from edge_agent.model.values import Nameplate, Snapshot
from protos import services, subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2, local_pb2, report_pb2, site_pb2


class IntentError(ValueError):
    """An intent that this site cannot carry out; says why."""


class Severity(Enum):
    """How much an event matters to a person."""

    INFO = report_pb2.Event.SEVERITY_INFO
    WARNING = report_pb2.Event.SEVERITY_WARNING
    ALARM = report_pb2.Event.SEVERITY_ALARM


class AckState(Enum):
    """What became of an intent, as far as control knows."""

    ACCEPTED = report_pb2.Acknowledgement.STATE_ACCEPTED
    ACTIVE = report_pb2.Acknowledgement.STATE_ACTIVE
    EXPIRED = report_pb2.Acknowledgement.STATE_EXPIRED
    RELEASED = report_pb2.Acknowledgement.STATE_RELEASED
    REFUSED = report_pb2.Acknowledgement.STATE_REFUSED


class Reporter:
    """Tells sync, and through it the coordinator, what happened here."""

    def __init__(self, *, site: str, boot_id: str, clock: Clock, send: Callable[[bytes], None]) -> None:
        """boot_id: unlike that of any other start of this agent; makes the ids that are sent unique."""
        self._site = site
        self._boot_id = boot_id
        self._clock = clock
        self._send = send
        self._count = 0

    def event(self, code: str, severity: Severity, text: str) -> None:
        event = report_pb2.Event(
            site=self._site,
            event_id=self._next_id(),
            at_ms=self._clock.utc_ms(),
            severity=severity.value,
            code=code,
            text=text,
        )
        self._send(local_pb2.ToSync(event=event).SerializeToString())

    def acknowledge(self, kind: str, sequence: int, state: AckState, reason: str = "") -> None:
        acknowledgement = report_pb2.Acknowledgement(
            site=self._site,
            kind=kind,
            sequence=sequence,
            state=state.value,
            reason=reason,
            at_ms=self._clock.utc_ms(),
            event_id=self._next_id(),
        )
        self._send(local_pb2.ToSync(acknowledgement=acknowledgement).SerializeToString())

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._boot_id}-{self._count}"


def snapshot_message(snapshot: Snapshot, *, armed: bool = False) -> bytes:
    """One cycle's picture for sync; what is not good is absent. armed: it will be settled."""
    report = local_pb2.SnapshotReport(
        at_ms=snapshot.utc_ms,
        armed=armed,
        grid_power_w=snapshot.grid_power_w.good,
        inverter_power_w=snapshot.inverter_power_w.good,
        soc=snapshot.soc.good,
        frequency_hz=snapshot.frequency_hz.good,
        voltage_v=snapshot.voltage_v.good,
        pv_power_w=snapshot.pv_power_w.good,
        ev_power_w=snapshot.ev_power_w.good,
        flexible_load_power_w=snapshot.flexible_load_power_w.good,
        ev_session_wh=snapshot.ev_session_wh.good,
        ev_connected=snapshot.ev_connected.good,
    )
    return local_pb2.ToSync(snapshot=report).SerializeToString()


def description_message(
    devices: Iterable[tuple[str, Nameplate | None]],
    inverter: Nameplate | None,
    *,
    soc_min: float,
    soc_max: float,
    firmware: Iterable[Delivered] = (),
) -> bytes:
    """What stands at the site; a device that has not been found yet bears its name only. Sync adds its version.

    firmware: what became of it at microcontrollers; sync adds the other updates.
    """
    description = site_pb2.SiteDescription(soc_min=soc_min, soc_max=soc_max)
    for each in firmware:
        state = site_pb2.UpdateStatus.State.Value(f"STATE_{each.state.replace('-', '_').upper()}")
        description.updates.add(kind="firmware", name=each.name, version=each.version, state=state, reason=each.reason)
    for name, plate in devices:
        device = description.devices.add(name=name)
        if plate is not None:
            device.manufacturer, device.model, device.serial = plate.manufacturer, plate.model, plate.serial
            device.sunspec_models.extend(plate.sunspec_models)
            _rate(device, plate)
    if inverter is not None:
        _rate(description, inverter)
    return local_pb2.ToSync(description=description).SerializeToString()


def read_expectation(message: local_pb2.Expectation) -> Expectation:
    return Expectation(
        start_ms=message.start_ms,
        step_s=max(1, message.step_s),
        load_w=tuple(map(float, message.load_w)),
        sun_w=tuple(map(float, message.sun_w)),
        source=message.source,
        note=message.note,
    )


def _rate(message: site_pb2.Device | site_pb2.SiteDescription, plate: Nameplate) -> None:
    message.rated_power_w = plate.rated_power_w
    message.max_charge_w = plate.max_charge_w
    message.max_discharge_w = plate.max_discharge_w
    message.storage_capacity_wh = plate.storage_capacity_wh


def intent_kind(message: intent_pb2.Intent) -> str:
    """The kind it travels under; that of services for a body that is not known here."""
    return subjects.INTENT_KIND_OF_BODY.get(message.WhichOneof("body") or "", "service")


def read_intent(message: intent_pb2.Intent, ahead_ms: float) -> Intent:
    """The intent with its instants on the monotonic clock. Raises IntentError.

    ahead_ms: the coordinator's UTC less the monotonic clock.
    """

    def monotonic(ms: int) -> float:
        return (ms - ahead_ms) / 1e3

    body = _read_body(message, monotonic)
    if message.expires_ms <= message.valid_from_ms:
        raise IntentError("expires_ms is not after valid_from_ms")
    return Intent(
        kind=intent_kind(message),
        sequence=message.sequence,
        starts_s=monotonic(message.valid_from_ms),
        ends_s=monotonic(message.expires_ms),
        body=body,
        ahead_ms=ahead_ms,
    )


def _read_body(message: intent_pb2.Intent, monotonic: Callable[[int], float]) -> Body:
    match message.WhichOneof("body"):
        case "schedule":
            return _read_schedule(message.schedule, monotonic)
        case "arm":
            return _read_arm(message.arm)
        case "release":
            return Release(award_id=message.release.award_id)
        case "envelope":
            return _read_envelope(message.envelope, monotonic)
        case "setpoint":
            return PowerSetpoint(power_w=float(message.setpoint.inverter_power_w), reason=message.setpoint.reason)
        case "price":
            return FollowPrice(group=message.price.group, fallback_ticks=message.price.fallback_ticks)
        case "stop":
            return _read_stop(message.stop, message.issued_ms)
        case _:
            raise IntentError("the intent has no body that this agent knows; update the agent")


def _read_schedule(message: intent_pb2.Schedule, monotonic: Callable[[int], float]) -> Schedule:
    if message.mtu_s == 0:
        raise IntentError("schedule: mtu_s is 0")
    if len(message.stored_value_ticks) not in (0, len(message.inverter_power_w)):
        raise IntentError("schedule: stored_value_ticks are neither none nor as many as inverter_power_w")
    return Schedule(
        start_s=monotonic(message.start_ms),
        mtu_s=float(message.mtu_s),
        power_w=tuple(float(power_w) for power_w in message.inverter_power_w),
        plan_id=message.plan_id,
        stored_value_ticks=tuple(message.stored_value_ticks),
    )


def _read_envelope(message: intent_pb2.Envelope, monotonic: Callable[[int], float]) -> Envelope:
    if message.mtu_s == 0:
        raise IntentError("envelope: mtu_s is 0")
    if len(message.import_limit_w) != len(message.export_limit_w) or not message.import_limit_w:
        raise IntentError("envelope: give as many import limits as export limits, and one at least")
    return Envelope(
        envelope_id=message.envelope_id,
        start_s=monotonic(message.start_ms),
        mtu_s=float(message.mtu_s),
        import_limit_w=tuple(float(limit_w) for limit_w in message.import_limit_w),
        export_limit_w=tuple(float(limit_w) for limit_w in message.export_limit_w),
    )


def _read_stop(message: intent_pb2.StopOrder, issued_ms: int) -> StopOrder:
    return StopOrder(stop=message.stop, issued_ms=issued_ms, reason=message.reason)


def read_broadcast(message: broadcast_pb2.Broadcast, ahead_ms: float, now_s: float) -> Broadcast:
    """The broadcast with its instants on the monotonic clock. Raises IntentError."""
    body: Price | Regulation | StopOrder
    match message.WhichOneof("body"):
        case "price":
            price = message.price
            body = Price(ticks=price.ticks + price.tick_fraction_e6 / 1e6, step_share=price.step_share_e6 / 1e6)
        case "regulation":
            body = Regulation(signal=message.regulation.signal_e6 / 1e6)
        case "stop":
            body = _read_stop(message.stop, message.issued_ms)
        case _:
            raise IntentError("the broadcast has no body that this agent knows; update the agent")
    return Broadcast(
        group=message.group,
        sequence=message.sequence,
        heard_s=now_s,
        ends_s=(message.expires_ms - ahead_ms) / 1e3,
        body=body,
    )


def _read_arm(message: intent_pb2.ArmService) -> ArmService:
    try:
        service = services.parse(message.service_toml)
    except services.ServiceError as error:
        raise IntentError(str(error)) from error
    if (service.id, service.version) != (message.service_id, message.service_version):
        raise IntentError(
            f"service text is {service.id} version {service.version}, "
            f"the intent names {message.service_id} version {message.service_version}"
        )
    if message.contracted_w == 0:
        raise IntentError("contracted_w is 0")
    if service.signal is not None and not message.group:
        raise IntentError(f"{service.id} follows a signal and the intent names no group that hears it")
    return ArmService(
        award_id=message.award_id,
        service=service,
        contracted_w=float(message.contracted_w),
        group=message.group,
    )
