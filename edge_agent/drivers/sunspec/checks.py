"""What a device's values give away about its map: findings in words, for whoever installs it. Pure."""

from edge_agent.drivers.samples import FREQUENCY_HZ, INSANE_POWER_PU
from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import Image
from edge_agent.drivers.sunspec.points import Points
from edge_agent.drivers.sunspec.readings import read_nameplate


def look(image: Image, points: Points) -> tuple[str, ...]:
    """Everything that a device at work would not show. A value that is not implemented now is none: it may be night."""
    return (
        *_scales(image, points),
        *_frequencies(image, points),
        *_ratings(image, points),
        *_connections(image, points),
        *_panels(image, points),
    )


def _scales(image: Image, points: Points) -> list[str]:
    return [
        f"{field} has a value but no scale factor that SunSpec allows ({_shown(image, field)}): it is not used"
        for field in (*points.measured, *points.constant)
        if isinstance(field.scale, Field) and image.raw(field) is not None and image.power(field) is None
    ]


def _shown(image: Image, field: Field) -> str:
    if not isinstance(field.scale, Field):
        return ""
    raw = image.raw(field.scale)
    return f"{field.scale.path} (not implemented)" if raw is None else f"{field.scale.path} = {raw}"


def _frequencies(image: Image, points: Points) -> list[str]:
    findings = []
    for field in (points.frequency, points.meter_frequency):
        value = image.number(field)
        if field is None or value is None or value == 0.0 or FREQUENCY_HZ[0] <= value <= FREQUENCY_HZ[1]:
            continue
        swapped = _swapped(image, field)
        if swapped is not None and FREQUENCY_HZ[0] <= swapped <= FREQUENCY_HZ[1]:
            findings.append(
                f"{field} reads {value:g} Hz, and {swapped:g} Hz with its registers exchanged: the device writes the "
                f"low word first, so no value of more than one register of model {field.model_id} can be trusted"
            )
        else:
            findings.append(f"{field} reads {value:g} Hz, which no grid has")
    return findings


def _swapped(image: Image, field: Field) -> float | None:
    """The value with its two registers exchanged, None where it has not two."""
    raw = image.raw(field)
    if field.point.size != 2 or raw is None:
        return None
    data = codec.encode(field.point.type, 2, raw)
    other = codec.decode(field.point.type, data[2:] + data[:2])
    if other is None or isinstance(other, str):
        return None
    power = image.power(field) if field.scale is not None else 0
    return codec.scaled(other, power) if power is not None else None


def _ratings(image: Image, points: Points) -> list[str]:
    if points.power is None:
        return []
    rated_w = read_nameplate(image, points, ()).rated_power_w
    if rated_w <= 0:
        return ["the device tells no rated power (models 702, 120, 121), so it is not driven"]
    power_w = image.number(points.power)
    if power_w is not None and abs(power_w) > INSANE_POWER_PU * rated_w:
        return [f"{points.power} reads {power_w:.0f} W at a rating of {rated_w:.0f} W, so it is not believed"]
    return []


def _connections(image: Image, points: Points) -> list[str]:
    findings = []
    for field, what in (
        (points.grid_connected, "the inverter is not connected to the grid"),
        (points.storage_connected, "no storage is connected"),
    ):
        raw = image.raw(field)
        if raw == 0:
            findings.append(f"{field} says that {what}")
    return findings


def _panels(image: Image, points: Points) -> list[str]:
    """Of an older hybrid, whose storage is steered around what the panels give."""
    older = isinstance(points.ac_type, int)
    if not older or points.dc_ports or not points.soc or read_nameplate(image, points, ()).max_charge_w <= 0:
        return []
    return ["there is no model 160, so what its panels give is not known, and its power is set as if it were nothing"]
