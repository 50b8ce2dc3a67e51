"""`vpp-cloud site configure`, end to end: real coordinator, broker, agent and device; the outcome comes as an event."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from hil.run.chain import Chain
from hil.run.processes import command, wait_until

Start = Callable[[int], AbstractContextManager[Chain]]
SITE = "home-01"


def test_a_limit_from_afar_is_kept_and_an_address_without_a_device_is_taken_back(
    running_chain: Start, tmp_path: Path
) -> None:
    with running_chain(1) as running:
        running.start_rig()
        running.start_coordinator()
        running.register_homes()
        config = running.agent_config(SITE)
        config.write_text(config.read_text().replace("[coordinator]\n", "[coordinator]\nremote_addresses = true\n"))
        running.start_agents()
        running.wait_online()

        _configure(running, tmp_path, '[[devices]]\nname = "hybrid"\nport = 1\n')
        told = _outcome(running, 1)
        assert told.startswith("configuration.rolled_back: revision 1: device hybrid: cannot connect to ")

        _configure(running, tmp_path, "[control]\nexport_limit_w = 0\nsoc_max = 0.9\n")
        assert _outcome(running, 2) == (
            "configuration.applied: revision 2: soc_max 0.95 -> 0.9, export_limit_w none -> 0"
        )
        described = next(s.description for s in running.ledger.sites())
        assert described is not None
        assert 0.85 < described.soc_max <= 0.9  # and the market plans with it

        _configure(running, tmp_path, "[control]\nsoc_max = 0.99\n")
        assert "$.control.soc_max: 0.99 is above the owner's 0.95" in _outcome(running, 3)
        audited = [e for e in running.ledger.audit_entries() if e.action == "site.configured"]
        assert [e.subject for e in audited] == [SITE] * 3


def _configure(running: Chain, folder: Path, text: str) -> None:
    file = folder / "remote.toml"
    file.write_text(text)
    command(["vpp-cloud", "site", "configure", SITE, str(file), "--data", str(running.cloud)])
    asked = running.ledger.approvals()[0]
    running.ledger.answer_approval(asked.number, grant=True, now_ms=asked.asked_ms, actor="user:second")


def _outcome(running: Chain, revision: int) -> str:
    """What the agent told of the revision."""

    def told() -> list[str]:
        return [
            f"{event.code}: {event.text}"
            for event in running.ledger.events(limit=1000)
            if event.code.startswith("configuration.") and event.text.startswith(f"revision {revision}: ")
        ]

    wait_until(lambda: bool(told()), f"revision {revision} decided", within_s=120, processes=running.processes)
    return told()[0]
