"""`vpp-cloud stop`: who is meant, and what is said where nothing can be sent."""

from pathlib import Path

import pytest

from cloud.store.ledger import Ledger
from cloud.testing import Plant
from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


async def test_sites_hear_an_order_that_the_broker_keeps_and_groups_a_broadcast(plant: Plant, tmp_path: Path) -> None:
    async with plant.running():
        for site in ("home-01", "home-02"):
            claim = str(tmp_path / f"{site}.toml")
            assert await plant.command("site", "add", site, "--group", "north", "--claim-file", claim) == 0
        nc = await plant.backend()
        heard = await nc.subscribe(subjects.broadcast("north", "stop"))
        await nc.flush()
        assert await plant.command("stop", "--group", "north", "--reason", "smoke") == 0
        signed = broadcast_pb2.SignedBroadcast.FromString((await heard.next_msg(10)).data)
        said = broadcast_pb2.Broadcast.FromString(signed.broadcast)
        assert (said.group, said.stop) == ("north", intent_pb2.StopOrder(stop=True, reason="smoke"))
        assert await plant.command("stop", "home-02", "--lift", "--reason", "no fire") == 0
        kept = []
        for site in ("home-01", "home-02"):
            stored = await nc.jetstream().get_last_msg(subjects.INTENT_STREAM, subjects.intent(site, "stop"))
            one = intent_pb2.Intent.FromString(intent_pb2.SignedIntent.FromString(stored.data or b"").intent)
            kept.append((one.site, one.stop.stop, one.stop.reason))
        assert kept == [("home-01", True, "smoke"), ("home-02", False, "no fire")]
        await nc.close()
    with Ledger(plant.data.ledger) as ledger:
        who = {entry.actor for entry in ledger.audit_entries() if entry.action in ("intent.issued", "broadcast.sent")}
    assert len(who) == 1
    assert who.pop().startswith("command:")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("--reason", "x"), "whom?", id="nobody"),
        pytest.param(("--all", "--reason", " "), "say why", id="no reason"),
        pytest.param(("home-09", "--reason", "x"), "nothing was stopped", id="unknown site"),
        pytest.param(("home-01", "home-09", "--reason", "x"), "nothing was stopped", id="one of them unknown"),
        pytest.param(("--group", "south", "--reason", "x"), "has no site", id="empty group"),
        pytest.param(("--all", "--reason", "x", "--config", "FILE"), "names no [messaging] urls", id="no addresses"),
        pytest.param(("--all", "--reason", "x"), "NOTHING WAS SENT", id="no broker runs"),
        pytest.param(
            ("--all", "--reason", "x", "--broker", "tls://127.0.0.1:1"), "NOTHING WAS SENT", id="wrong address"
        ),
    ],
)
async def test_what_cannot_be_stopped_is_said_in_one_line(
    plant: Plant, tmp_path: Path, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with plant.running():
        await plant.claim("home-01")
    config = tmp_path / "coordinator.toml"
    config.write_text("")
    capsys.readouterr()
    assert await plant.command("stop", *(str(config) if word == "FILE" else word for word in arguments)) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
