"""The emergency stop from the command to the device, with the coordinator gone: only a broker runs."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from hil.run.chain import Chain
from hil.run.processes import wait_until

Start = Callable[[int], AbstractContextManager[Chain]]


def ran(*command: str) -> "subprocess.CompletedProcess[str]":
    program = str(Path(sys.executable).parent / command[0])
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=60)


def test_a_stop_needs_no_coordinator_and_stands_until_it_is_lifted(running_chain: Start) -> None:
    with running_chain(2) as chain:
        chain.start_rig()
        chain.start_coordinator()
        chain.register_homes()
        chain.start_agents()
        chain.wait_online()
        assert len({site.groups for site in chain.ledger.sites()}) == 2, "each home has a group of its own"
        data = ["--data", str(chain.cloud)]

        def stopped(site: str) -> str | None:
            ran("vpp-agent", "status", "--config", str(chain.agent_config(site)))  # has it write how it is
            reason: str | None = chain.agent_statistics(site)["stopped"]
            return reason

        def until(what: str, condition: Callable[[], bool]) -> None:
            wait_until(condition, what, within_s=60, processes=chain.processes)

        first, second = chain.sites
        group = next(site.groups[0] for site in chain.ledger.sites() if site.site == first)
        with chain.without_coordinator():
            nothing = ran("vpp-cloud", "stop", "--all", "--reason", "smoke", *data)
            assert nothing.returncode == 2
            assert "NOTHING WAS SENT" in nothing.stderr
            assert "vpp-agent stop" in nothing.stderr

            local = ran("vpp-agent", "stop", "--local", "--config", str(chain.agent_config(second)), "--reason", "fire")
            assert (local.returncode, local.stdout) == (0, f"site {second}: stopped\n")
            assert stopped(second) == "at the gateway: fire"

            chain.processes.start("broker", ["vpp-cloud", "run", "--role", "broker", *data])
            until(
                "a broker runs alone",
                lambda: ran("vpp-cloud", "stop", first, "--reason", "smoke", *data).returncode == 0,
            )
            until("the site is stopped", lambda: stopped(first) == "smoke")
            assert stopped(second) == "at the gateway: fire"
            ran("vpp-cloud", "stop", first, "--lift", "--reason", "no fire", *data)
            until("the site is let go", lambda: stopped(first) is None)
            assert ran("vpp-cloud", "stop", "--group", group, "--reason", "drill", *data).returncode == 0
            until("its group is stopped", lambda: stopped(first) == "drill")
            chain.processes.stop("broker")

        chain.processes.stop(f"agent-{first}")
        chain.start_agent(first)
        until("it is stopped after a restart", lambda: stopped(first) == "drill")
        assert ran("vpp-cloud", "stop", "--all", "--lift", "--reason", "drill is over", *data).returncode == 0
        until("all but the local stop is lifted", lambda: stopped(first) is None)
        assert stopped(second) == "at the gateway: fire", "who stands there lifts it"
        ran("vpp-agent", "stop", "--local", "--lift", "--config", str(chain.agent_config(second)), "--reason", "out")
        assert stopped(second) is None
        until(
            "it is told to the coordinator",
            lambda: {"stop.ordered", "stop.lifted"} <= {e.code for e in chain.ledger.events(site=second)},
        )
        audited = [entry for entry in chain.ledger.audit_entries() if '"stop"' in entry.detail]
        assert audited
        assert all(entry.actor.startswith("command:") for entry in audited if entry.action == "intent.issued")
        assert [e.subject for e in chain.ledger.audit_entries() if e.action == "broadcast.sent"].count(group) >= 2
