"""A program that dispatches through the console of a whole coordinator."""

from pathlib import Path

import httpx
import pytest

from cloud.store.ledger import Ledger
from cloud.testing import DEADLINE_S, Plant
from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2


async def test_a_setpoint_and_a_stop_leave_for_the_broker_in_the_programs_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = Plant(tmp_path)
    async with plant.running() as run:
        claim = str(tmp_path / "home-01.toml")
        assert await plant.command("site", "add", "home-01", "--group", "north", "--claim-file", claim) == 0
        capsys.readouterr()
        scopes = ("--scope", "view", "--scope", "dispatch", "--scope", "stop")
        assert await plant.command("token", "add", "desk", *scopes) == 0
        token = next(word for word in capsys.readouterr().out.split() if word.startswith("vppt_"))
        nc = await plant.backend()
        heard = await nc.subscribe(subjects.broadcast("north", "stop"))
        ordered = await nc.subscribe(subjects.intent("home-01", "setpoint"))
        await nc.flush()
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=f"{run['console']}/api/v1", headers=headers, trust_env=False) as calls:
            wanted = {"sites": ["home-01"], "power_w": 1500, "minutes": 5, "reason": "drill"}
            assert (await calls.post("/setpoints", json=wanted)).status_code == 201
            sent = intent_pb2.SignedIntent.FromString((await ordered.next_msg(DEADLINE_S)).data)
            assert intent_pb2.Intent.FromString(sent.intent).setpoint.inverter_power_w == 1500
            stop = await calls.post("/stop", json={"groups": ["north"], "reason": "fire"}, timeout=DEADLINE_S)
            assert stop.json() == {"groups": ["north"], "sites": ["home-01"], "failures": []}
        signed = broadcast_pb2.SignedBroadcast.FromString((await heard.next_msg(10)).data)
        assert broadcast_pb2.Broadcast.FromString(signed.broadcast).stop == intent_pb2.StopOrder(
            stop=True, reason="fire"
        )
        await nc.close()
    with Ledger(plant.data.ledger) as ledger:
        issued = [entry.actor for entry in ledger.audit_entries() if entry.action == "intent.issued"]
    assert issued == ["token:desk", "token:desk"]
