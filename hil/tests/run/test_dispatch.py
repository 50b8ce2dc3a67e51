"""The chain under dispatch: real coordinator and broker, real agents on the rig's inverters."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import numpy as np
import pytest

from cloud.gateway.intents import body_text
from cloud.model.dispatch import Order
from cloud.model.records import IntentState
from hil.rigs.recording import load_recording
from hil.run.chain import Chain
from hil.run.processes import command, wait_until
from protos.vpp.v1 import intent_pb2

Start = Callable[[int], AbstractContextManager[Chain]]
TARGET_W = 2_000
WORTH_TICKS = 10_000


@pytest.mark.alone
def test_an_activation_moves_real_homes_to_the_target_through_a_broadcast_price(running_chain: Start) -> None:
    with running_chain(3) as running:
        running.start_rig()
        running.start_coordinator()
        running.register_homes()
        running.start_agents()
        running.wait_online()
        _value_energy(running)
        data = ["--data", str(running.cloud)]
        override = ["--power-w", "-300", "--minutes", "9", "--reason", "test"]
        command(["vpp-cloud", "setpoint", "home-02", *data, *override])
        limits = ["--import-w", "9000", "--export-w", "8000", "--minutes", "9"]
        command(["vpp-cloud", "envelope", "set", *data, "--each-of", "droop", *limits])
        group = ["--group", "fast", "--power-w", str(TARGET_W)]
        said = command(["vpp-cloud", "activate", *data, *group, "--minutes", "1.2", "--reason", "test"])
        name = said.split(":")[0]

        def over() -> bool:
            shown = json.loads(command(["vpp-cloud", "dispatch", "show", name, *data, "--json"]))
            return bool(shown["state"] == "verified")

        wait_until(over, "the activation is over", within_s=150, processes=running.processes)
        shown = json.loads(command(["vpp-cloud", "dispatch", "show", name, *data, "--json"]))
        status = json.loads(command(["vpp-cloud", "dispatch", "status", *data, "--json"]))
        recording = load_recording(running.save_recording())
        followed = {i.site for i in running.ledger.intents(kind="price")}

    sites = {site["site"] for site in shown["sites"]}
    assert sites == followed == {"home-01", "home-03"}
    assert not any(site["deviated"] for site in shown["sites"])
    assert shown["note"] == ""
    assert shown["error_p95_w"] <= 0.1 * TARGET_W
    assert shown["expected_wh"] == pytest.approx(shown["target_wh"], rel=0.1)
    states = {(order["site"], order["kind"], order["state"]) for order in status["orders"]}
    assert states == {
        *((f"home-0{number}", "schedule", "active") for number in (1, 2, 3)),
        ("home-02", "setpoint", "active"),
        ("home-02", "envelope", "active"),
    }
    # By the inverters' own registers, in the activation's last half minute:
    begin_ms, end_ms = shown["end_ms"] - 30_000, shown["end_ms"] - 1_000
    delivered_w = sum(
        float(np.mean(home.power_w[(home.t_ms >= begin_ms) & (home.t_ms < end_ms)]))
        for site, home in recording.homes.items()
        if site in sites
    )
    overridden = recording.homes["home-02"]
    power_w = overridden.power_w[(overridden.t_ms >= begin_ms) & (overridden.t_ms < end_ms)]
    assert float(np.mean(power_w)) == pytest.approx(-300.0, abs=20.0)
    assert delivered_w == pytest.approx(TARGET_W, abs=0.05 * TARGET_W)


def _value_energy(running: Chain) -> None:
    """A schedule for every home that says what its energy is worth, so that its battery is on offer."""
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    schedule = intent_pb2.Schedule(
        start_ms=now_ms - now_ms % 900_000,
        mtu_s=900,
        inverter_power_w=[0, 0, 0],
        plan_id="test",
        stored_value_ticks=[WORTH_TICKS] * 3,
    )
    for site in running.sites:
        running.ledger.add_order(
            Order(
                order_id=f"schedule-{site}",
                site=site,
                kind="schedule",
                body=body_text(schedule),
                valid_from_ms=now_ms,
                expires_ms=now_ms + 1_700_000,
                actor="test",
                created_ms=now_ms,
            )
        )

    def active() -> bool:
        found = {i.site for i in running.ledger.intents(kind="schedule") if i.state is IntentState.ACTIVE}
        return found.issuperset(running.sites)

    wait_until(active, "every home has its schedule", within_s=60, processes=running.processes)

    def kept() -> bool:
        """Each begins at a moment of its own; what its battery can do is told with it."""
        homes = load_recording(running.save_recording()).homes
        return all(abs(float(home.power_w[-1])) < 20.0 for home in homes.values())

    wait_until(kept, "every home keeps to its schedule", within_s=60, processes=running.processes)
