"""An insider who raises the limits: by the configuration's file, over restarts, under a name that is not his."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.commands import registry
from cloud.config import AreaConfig, AreaLimitsConfig, FleetGuardConfig
from cloud.gateway import fleet_limits
from cloud.gateway.fleet_guard import ELSEWHERE, FleetGuard, SecondPersonNeeded
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from protos.vpp.v1 import intent_pb2

NOW_MS = 1_700_000_000_000
FIRST = FleetGuardConfig(elsewhere=AreaLimitsConfig(step_w=5_000.0))
RAISED = FleetGuardConfig(
    elsewhere=AreaLimitsConfig(step_w=1e9, ramp_w_per_min=1e9),
    areas=(AreaConfig(name="feeder-1", groups=("north",), step_w=1e9),),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_site("home-01", ("north",), NOW_MS)
        assert fleet_limits.settle(FIRST, ledger, NOW_MS, "command:root") == (FIRST, [])
        yield ledger


def move(guard: FleetGuard, power_w: int) -> None:
    body = intent_pb2.PowerSetpoint(inverter_power_w=power_w)
    guard.admit_intent("home-01", body, NOW_MS + 600_000, "user:mallory")


def test_limits_raised_in_the_file_are_not_in_force_before_somebody_else_grants_them(ledger: Ledger) -> None:
    for _ in range(3):  # restarts ask once
        in_force, told = fleet_limits.settle(RAISED, ledger, NOW_MS, "command:root")
        assert in_force == FIRST
        assert len(told) == 1
        assert "elsewhere.step_w 5000 -> 1000000000" in told[0]
        assert "areas.feeder-1.groups none -> north" in told[0]
        assert told[0].endswith("vpp-cloud approve grant 1")
    limits, areas = fleet_limits.areas(in_force)
    guard = FleetGuard(ledger, limits, areas, lambda: NOW_MS)
    assert fleet_limits.take_up(guard, ledger, in_force) == FIRST
    with pytest.raises(SecondPersonNeeded, match=ELSEWHERE):
        move(guard, 9_000)

    with pytest.raises(LedgerError, match="ask somebody else"):
        ledger.answer_approval(1, grant=True, now_ms=NOW_MS, actor="command:root")
    ledger.answer_approval(1, grant=True, now_ms=NOW_MS, actor="user:ada")
    assert fleet_limits.settle(RAISED, ledger, NOW_MS, "command:root") == (RAISED, [])
    assert fleet_limits.take_up(guard, ledger, in_force) == RAISED
    move(guard, 9_000)


def test_nor_does_the_file_make_an_installation_of_one_person(ledger: Ledger) -> None:
    alone = FleetGuardConfig(elsewhere=FIRST.elsewhere, single_operator=True)
    in_force, told = fleet_limits.settle(alone, ledger, NOW_MS, "command:root")
    assert not in_force.single_operator
    assert "single_operator false -> true" in told[0]
    with pytest.raises(LedgerError, match="ask somebody else"):
        ledger.answer_approval(1, grant=True, now_ms=NOW_MS, actor="command:root")


def test_one_person_is_said_at_each_start(tmp_path: Path) -> None:
    with Ledger(tmp_path / "other.db") as ledger:
        for _ in range(2):
            _, told = fleet_limits.settle(FleetGuardConfig(single_operator=True), ledger, NOW_MS, "command:root")
            assert "single_operator = true" in told[0]
        said = [entry.action for entry in ledger.audit_entries()]
    assert said == ["limits.set", "approvals.single_operator", "approvals.single_operator"]


def test_a_name_in_the_environment_makes_nobody_a_second_person() -> None:
    script = "from cloud.commands import registry; print(registry.actor())"
    claims = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"), "bob")
    said = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | claims, check=True, capture_output=True, text=True
    )
    assert said.stdout.strip() == registry.actor()
    assert "bob" not in said.stdout
