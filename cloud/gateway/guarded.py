"""What the body of an intent may move at its site, for the fleet guard's accounts."""

from enum import StrEnum

from protos.vpp.v1 import intent_pb2


class Account(StrEnum):
    """Of an area, each judged for itself."""

    POWER = "power"
    SERVICES = "services"
    ENVELOPES = "envelopes"


def power_w(body: intent_pb2.PowerSetpoint | intent_pb2.Schedule) -> float | None:
    """The power that is asked of the site; None where a schedule asks for none.

    Of a schedule the greatest: wherever in it the site stands, all of them may step there at once.
    """
    if isinstance(body, intent_pb2.PowerSetpoint):
        return float(body.inverter_power_w)
    return float(max(body.inverter_power_w, key=abs)) if body.inverter_power_w else None


def service_w(body: intent_pb2.ArmService | intent_pb2.Release) -> float:
    """The power that the site holds back, a magnitude."""
    return float(body.contracted_w) if isinstance(body, intent_pb2.ArmService) else 0.0


def envelope_w(body: intent_pb2.Envelope, rated_w: float) -> float:
    """What an envelope takes from the site in its narrowest unit, of all that it could do both ways; 0 or below."""
    taken_w = [
        max(0.0, rated_w - import_w) + max(0.0, rated_w - export_w)
        for import_w, export_w in zip(body.import_limit_w, body.export_limit_w, strict=False)
    ]
    return -max(taken_w, default=0.0)
