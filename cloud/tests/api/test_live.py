"""What a tab is told, against what was registered, asked and measured."""

import asyncio
import datetime as dt
import json
from typing import Any

import httpx

from cloud.api.testing import World
from cloud.model.records import EventRecord, IntentState, Severity


def two_homes(world: World) -> int:
    """home-01 armed and measured, home-02 silent; the first sample's instant."""
    world.add_site("home-01", "fast")
    world.add_site("home-02", "droop", "west")
    world.schedule("home-01", 1_000, 500)
    world.arm("home-01", "ercot-ffr", 3_000)
    t0_ms = world.now_ms // 100 * 100
    world.measure(
        0,
        t0_ms,
        frequency_hz=[60.0] * 5 + [59.84] * 5,
        soc=0.8312,
        inverter_power_w=-1_234.0,
        grid_power_w=56.0,
        pv_power_w=780.0,
    )
    world.now += dt.timedelta(milliseconds=1_000)
    return t0_ms


async def pictures(world: World, count: int) -> list[dict[str, Any]]:
    """The first messages that a new tab gets while the live picture runs."""
    running = asyncio.create_task(world.live.run())
    messages: list[dict[str, Any]] = []
    stream = world.live.broadcaster.stream("session", lambda: True)
    try:
        async with asyncio.timeout(10):
            async for message in stream:
                if message.startswith(b"event: "):
                    event, data = message.decode().strip().split("\n", 1)
                    messages.append({"event": event.removeprefix("event: "), **json.loads(data.removeprefix("data: "))})
                    if len(messages) == count:
                        break
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
        running.cancel()
        await asyncio.wait({running})
    return messages


def merged(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What a tab knows after the messages; samples one after the other."""
    known: dict[str, Any] = {"samples": {}, "events": []}
    for message in messages:
        for name in ("system", "roster", "columns"):
            if name in message:
                known[name] = message[name]
        known["events"] += message.get("events") or []
        samples = message.get("samples") or {"power_w": []}
        for index in range(len(samples["power_w"])):
            at_ms = samples["t0_ms"] + index * samples["step_ms"]
            assert at_ms not in known["samples"]
            known["samples"][at_ms] = tuple(samples[name][index] for name in ("frequency_mhz", "power_w", "target_w"))
    return known


async def test_a_tab_learns_everything(world: World) -> None:
    t0_ms = two_homes(world)
    world.ledger.add_event(
        EventRecord(site="home-01", event_id="1", at_ms=t0_ms, severity=Severity.ALARM, code="device.lost", text="gone")
    )
    known = merged(await pictures(world, 3))
    assert known["roster"] == {"sites": ["home-01", "home-02"], "groups": [["fast"], ["droop", "west"]]}
    assert known["columns"] == {
        "soc_permille": [831, None],
        "inverter_power_w": [-1_234, None],
        "grid_power_w": [56, None],
        "pv_power_w": [780, None],
        "frequency_mhz": [59_840, None],
        "service": [0, None],
        "contracted_w": [3_000, None],
        "service_state": [3, None],  # active: the frequency is below the trigger
        "link": [0, 3],
        "age_ms": [world.now_ms - t0_ms - 900, None],
    }
    assert known["system"]["services"] == ["ercot-ffr"]
    assert known["system"]["states"][3] == "active"
    assert [known["system"]["links"][code] for code in (0, 3)] == ["live", "never"]
    assert known["system"]["armed"] == [
        {"service": "ercot-ffr", "sites": 1, "contracted_w": 3_000, "thresholds_hz": [59.85]}
    ]
    assert (known["system"]["sites"], known["system"]["online"]) == (2, 1)
    assert known["system"]["nominal_hz"] == 60
    assert [(event["site"], event["severity"], event["text"]) for event in known["events"]] == [
        ("home-01", "alarm", "gone")
    ]


async def test_samples_are_the_fleet_and_its_target_instant_by_instant(world: World) -> None:
    t0_ms = two_homes(world)
    samples = merged(await pictures(world, 3))["samples"]
    measured = {at_ms: sample for at_ms, sample in samples.items() if t0_ms <= at_ms < t0_ms + 1_000}
    assert measured == {
        t0_ms + 100 * k: (60_000, -1_234, 1_000) if k < 5 else (59_840, -1_234, 1_000 + 3_000) for k in range(10)
    }


async def test_an_instant_waits_for_every_site_that_reports(world: World) -> None:
    two_homes(world)
    t0_ms = world.now_ms // 100 * 100
    world.measure(0, t0_ms, inverter_power_w=100.0)
    world.measure(1, t0_ms - 1_000, inverter_power_w=10.0)  # heard of, but not yet for the newest instants
    world.now += dt.timedelta(milliseconds=1_000)
    early = merged(await pictures(world, 2))["samples"]
    assert max(early) < t0_ms
    world.measure(1, t0_ms, inverter_power_w=10.0)
    late = merged(await pictures(world, 3))["samples"]
    assert late[t0_ms][1] == 110


async def test_a_silent_site_does_not_hold_up_the_others(world: World) -> None:
    two_homes(world)
    t0_ms = world.now_ms // 100 * 100
    world.measure(1, t0_ms - 1_000, inverter_power_w=10.0)
    world.measure(0, t0_ms, inverter_power_w=100.0)
    world.now += dt.timedelta(milliseconds=4_000)
    assert merged(await pictures(world, 3))["samples"][t0_ms][1] == 100


async def test_a_silence_is_a_hole_as_long_as_it_was(world: World) -> None:
    t0_ms = two_homes(world)
    await pictures(world, 3)
    world.now += dt.timedelta(seconds=90)
    later_ms = t0_ms + 90_000
    world.measure(0, later_ms, inverter_power_w=7.0)
    world.now += dt.timedelta(milliseconds=1_000)
    samples = merged(await pictures(world, 3))["samples"]
    assert sorted(samples) == list(range(min(samples), max(samples) + 100, 100))
    assert samples[later_ms][1] == 7
    assert samples[later_ms - 5_000][1] is None


async def test_silence_shows_in_link_and_state(world: World) -> None:
    two_homes(world)
    shown = {}
    for after_s in (1, 6, 40):
        world.now += dt.timedelta(seconds=after_s)
        known = merged(await pictures(world, 3))
        codes, columns = known["system"], known["columns"]
        shown[after_s] = (codes["links"][columns["link"][0]], codes["states"][columns["service_state"][0]])
    # Its service is to answer all the while, but whether it does is known only while the site is heard.
    assert shown == {1: ("live", "active"), 6: ("late", "armed"), 40: ("silent", "armed")}


async def test_a_refused_service_is_shown_as_refused(world: World) -> None:
    world.add_site("home-01", "fast")
    world.arm("home-01", "ieee1547-droop", 900, IntentState.REFUSED)
    known = merged(await pictures(world, 3))
    assert known["system"]["states"][known["columns"]["service_state"][0]] == "refused"
    assert known["system"]["armed"] == []


async def test_a_site_added_later_appears(world: World) -> None:
    world.add_site("home-01")
    seen = merged(await pictures(world, 3))["roster"]["sites"]
    world.add_site("home-02")
    assert (seen, merged(await pictures(world, 6))["roster"]["sites"]) == (["home-01"], ["home-01", "home-02"])


async def test_the_api_tells_of_vehicles_where_there_are_chargers(world: World, operator: httpx.AsyncClient) -> None:
    two_homes(world)
    told = {"ev_power_w": -3_600.0, "ev_connected": 1, "ev_session_wh": 2_400.0, "flexible_load_power_w": 0.0}
    world.measure(0, world.now_ms // 100 * 100, inverter_power_w=500.0, **told)
    await pictures(world, 3)
    first, second = (await operator.get("/api/v1/sites")).json()
    assert {name: first[name] for name in told} == told
    assert {second[name] for name in told} == {None}


async def test_the_api_tells_the_same(world: World, operator: httpx.AsyncClient) -> None:
    two_homes(world)
    world.broker = False
    await pictures(world, 3)
    assert (await operator.get("/api/v1/health")).json() == {"broker": False, "sites": 2, "online": 1, "tabs": 0}
    first, second = (await operator.get("/api/v1/sites")).json()
    assert first["soc"] == 0.831
    assert first["inverter_power_w"] == -1_234
    assert first["service"] == {"service": "ercot-ffr", "state": "active", "contracted_w": 3_000}
    assert (second["site"], second["link"], second["soc"], second["service"]) == ("home-02", "never", None, None)
