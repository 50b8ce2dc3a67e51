"""What a site does now and why, in words: from what control writes about itself, for a terminal and for a page."""

from collections.abc import Iterator, Mapping
from typing import Any

STATISTICS = "control.json"  # in the data folder: how control is doing, written by it
FRESH_MS = 30_000  # control writes every 10 s

_SOURCES = {
    "setpoint": "an operator's setpoint",
    "price": "the price that was broadcast",
    "schedule": "the coordinator's schedule",
    "self-consumption": "the owner's default: storage holds the grid at zero",
    "idle": "the owner's default: storage rests",
    "default": "nobody asks for anything else",
}
_DRAWS_W = 50.0  # less is a standby
_PHASES = {
    "ready": "ready, nothing is asked of it",
    "delivering": "delivering",
    "releasing": "ending its delivery along its ramp",
    "recovering": "delivered, and resting before it may act again",
    "ended": "ended",
}


def sentences(control: Mapping[str, Any] | None, now_ms: int) -> Iterator[tuple[str, str]]:
    """(what it is about, a sentence), most important first. control: what STATISTICS holds; None: it is not there."""
    if control is None:
        yield "Control", "It has not run yet."
        return
    age_ms = now_ms - int(control.get("written_utc_ms", 0))
    if age_ms > FRESH_MS:
        yield "Control", f"It does not run: its last word is {_span(age_ms)} old. What follows is how it was then."
    if (stopped := control.get("stopped")) is not None:
        yield "Stop", f"Emergency stop, until it is lifted: {_sentence(stopped or 'no reason was given')}"
    yield "Power", _power(control)
    for service in control.get("services", ()):
        yield "Service", _service(service)
    if not control.get("services"):
        yield "Service", "None is armed."
    if (envelope := control.get("envelope_id")) is not None:
        yield "Envelope", f"The grid operator limits the connection{f', by {envelope}' if envelope else ''}."
    if guard := control.get("guard_note"):
        yield "Guard", f"The coordinator is not followed at once: {guard}."
    yield "Frequency", _frequency(control)
    for device in control.get("flexible") or ():
        yield ("Vehicle" if device.get("kind") == "ev_charger" else "Load"), _flexible(device)
    if (soc := control.get("soc")) is not None:
        note = control.get("energy_note")
        yield "Storage", f"{100 * soc:.1f} % charged.{f' {_sentence(note)}' if note else ''}"
    if (expected := control.get("expected")) is not None:
        yield "Expected", _expected(expected)
    if (kept := control.get("backup_soc")) is not None:
        yield "Backup", f"Without the coordinator {100 * kept:.0f} % are kept for an outage of the grid."
    silent = control.get("silent_devices") or ()
    yield "Devices", f"Silent: {', '.join(silent)}." if silent else "All answer."
    match control.get("linked"):
        case True:
            yield "Link", "The coordinator is connected."
        case False:
            yield "Link", "The coordinator cannot be reached: what it asked for runs to its end, then the default."
        case _:
            yield "Link", "Not known yet."
    yield "Loop", _loop(control)


def journal_sentence(counters: Mapping[str, int]) -> str:
    """The journal's book-keeping in words; counters as in JournalStatus."""
    waiting, lost = counters["frames_waiting"], counters["frames_dropped"]
    words = f"{waiting} of {counters['frames_created']} frames wait to be sent, {counters['events_waiting']} reports"
    if counters["frames_thinned"]:
        words += f"; {counters['frames_thinned']} were thinned to a sample a second for want of room"
    if lost:
        words += f"; {lost} were dropped for want of room"
    return f"{words}. {counters['used_bytes'] / 1e6:.1f} MB on the disk."


def _expected(expected: Mapping[str, Any]) -> str:
    parts = []
    for hours in ("6", "24"):
        load_wh, sun_wh = expected["load_wh"].get(hours), expected["sun_wh"].get(hours)
        known = [
            f"{energy_wh / 1000:.1f} kWh {what}"
            for energy_wh, what in ((load_wh, "used"), (sun_wh, "of sun"))
            if energy_wh is not None
        ]
        if known:
            parts.append(f"{' and '.join(known)} in the next {hours} h")
    note = expected.get("note")
    return f"{'; '.join(parts) or 'Nothing yet'}. Source: {expected['source']}{f' ({note})' if note else ''}."


def _power(control: Mapping[str, Any]) -> str:
    power_w, source = control.get("setpoint_w"), str(control.get("setpoint_source") or "")
    if power_w is None:
        return "Nothing is asked of the inverter: it follows its own default."
    does = "feeds" if power_w > 0 else "draws" if power_w < 0 else "rests at"
    parts = [_SOURCES.get(part, part) for part in source.split("+")]
    whys = [control.get("setpoint_reason"), control.get("price_note")]
    why = "".join(f" {_sentence(note)}" for note in whys if note)
    return f"The inverter is asked for {power_w:.0f} W ({does} {abs(power_w):.0f} W), by {' and '.join(parts)}.{why}"


def _flexible(device: Mapping[str, Any]) -> str:
    """A charger, or a load that can wait."""
    name, power_w, told_w = device["name"], device.get("power_w"), device.get("told_w")
    charges = device.get("kind") == "ev_charger"
    if power_w is None:
        return f"{name}: what it draws is not known: {device.get('why') or 'not read yet'}."
    if charges and device.get("connected") is False:
        return f"{name}: no vehicle is plugged in."
    if power_w < -_DRAWS_W:
        does = f"{'charging' if charges else 'running at'} {-power_w / 1e3:.1f} kW"
    elif told_w is not None and told_w < 0:
        does = f"is offered {-told_w / 1e3:.1f} kW and takes nothing"
    else:
        does = "waits" if told_w is not None else "rests"
    why = str(device.get("why") or "")
    source = str(device.get("source") or "")
    reasons = [_SOURCES.get(why, why)] if why else []
    if (ready_by := device.get("ready_by")) is not None:
        needed_wh = device.get("needed_wh") or 0.0
        if needed_wh <= 0:
            reasons.append(f"it has what it was to have by {ready_by}")
        elif device.get("late"):
            reasons.append(f"it is late for {ready_by} and still needs {needed_wh / 1e3:.1f} kWh")
        else:
            reasons.append(f"ready by {ready_by} needs {needed_wh / 1e3:.1f} kWh")
    if (level := device.get("level")) is not None:
        reasons.append(f"{100 * level:.0f} % of comfort")
    if source in ("price", "setpoint") and why not in ("", source):
        reasons.append(f"else {_SOURCES[source]} decides")
    return f"{name}: {does}{': ' if reasons else ''}{'; '.join(reasons)}."


def _service(service: Mapping[str, Any]) -> str:
    phase = _PHASES.get(str(service["phase"]), str(service["phase"]))
    share = f" {100 * float(service['share']):.0f} %" if service["phase"] in ("delivering", "releasing") else ""
    note = f" {_sentence(service['note'])}" if service.get("note") else ""
    return (
        f"{service['service']} is armed for {float(service['contracted_w']):.0f} W (award {service['award_id']}): "
        f"{phase}{share}.{note}"
    )


def _frequency(control: Mapping[str, Any]) -> str:
    hz, source = control.get("frequency_hz"), control.get("frequency_source")
    doubts = "".join(f" {name}: {why}." for name, why in (control.get("frequency_doubts") or {}).items())
    if hz is None:
        return f"Not known, so nothing is done about it.{doubts}"
    return f"{hz:.3f} Hz{f', by {source}' if source else ''}.{doubts}"


def _loop(control: Mapping[str, Any]) -> str:
    return (
        f"{control.get('cycles', 0)} cycles, {control.get('missed', 0)} missed; in the last minute late by "
        f"{control.get('late_ms_p99', 0)} ms (99th percentile); {control.get('write_failures', 0)} writes failed."
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _span(ms: int) -> str:
    seconds = ms // 1000
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"
