"""A running agent is updated through the coordinator: a version that does not run well is given up by itself."""

import contextlib
import json
import math
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import edge_agent
import protos
from edge_agent.tests.forecast import models
from hil.run.chain import Chain
from hil.run.processes import wait_until

Start = Callable[[int], AbstractContextManager[Chain]]

# Control runs as before, but the process that talks to the coordinator never comes up.
BROKEN = {"edge_agent/sync/__main__.py": "raise SystemExit(1)\n"}


def wheel(path: Path, version: str, changed: Mapping[str, str]) -> Path:
    """This very agent as a wheel of another version, with some of its files changed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in (edge_agent, protos):
            root = Path(str(package.__file__)).parent
            for file in sorted(root.rglob("*")):
                name = str(Path(root.name) / file.relative_to(root))
                if file.is_file() and "__pycache__" not in name and "/tests/" not in name:
                    archive.writestr(name, changed.get(name, file.read_bytes()))
        info = f"murmuration_vpp-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: murmuration-vpp\nVersion: {version}\n")
    return path


def command(*words: str) -> str:
    program = str(Path(sys.executable).parent / words[0])
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_good_version_stays_and_a_broken_one_is_rolled_back(running_chain: Start, tmp_path: Path) -> None:
    with running_chain(1) as chain:
        chain.start_rig()
        chain.start_coordinator()
        chain.register_homes()
        [site] = chain.sites
        data = ["--data", str(chain.cloud)]
        with chain.agent_config(site).open("a") as config:
            config.write("\n[update]\ntrial_s = 25\n")

        def order(version: str, changed: Mapping[str, str]) -> None:
            file = wheel(tmp_path / f"agent-{version}.whl", version, changed)
            digest = command("vpp-cloud", "update", "publish", str(file), "--version", version, *data).split()[-1]
            command("vpp-cloud", "update", "roll-out", digest, "--all", *data)

        def stands(version: str, state: str) -> None:
            def so() -> bool:
                versions = {update.digest: update.version for update in chain.ledger.updates()}
                return (version, state) in [(versions[s.digest], s.state) for s in chain.ledger.site_updates(site)]

            wait_until(so, f"version {version} is {state}", within_s=120, processes=chain.processes)

        def runs() -> str | None:
            [found] = [known.description for known in chain.ledger.sites()]
            return found.agent_version if found is not None else None

        order("7.0.0", {})
        agent = ["vpp-agent", "supervise", "--config", str(chain.agent_config(site))]
        chain.processes.start(f"agent-{site}", agent)
        stands("7.0.0", "healthy")
        wait_until(lambda: runs() == "7.0.0", "it tells its version", within_s=60, processes=chain.processes)

        order("7.0.1", BROKEN)
        stands("7.0.1", "rolled_back")
        wait_until(lambda: runs() == "7.0.0", "the former version runs", within_s=60, processes=chain.processes)
        slots = json.loads((chain.agent_data(site) / "updates" / "slots.json").read_text())
        assert slots["trial"] == ""
        assert "did not control and reach the coordinator" in next(
            outcome["reason"] for outcome in slots["outcomes"].values() if outcome["state"] == "rolled-back"
        )
        acts = [entry.action for entry in chain.ledger.audit_entries()]
        assert [acts.count(f"update.{act}") for act in ("published", "ordered", "healthy", "rolled_back")] == [
            2,
            2,
            1,
            1,
        ]


def test_a_good_model_stays_and_bad_ones_are_rolled_back_or_refused(running_chain: Start, tmp_path: Path) -> None:
    """Published, fetched, tried on the home's own two weeks, told; nobody starts anything anew."""
    with running_chain(1) as chain:
        chain.start_rig()
        chain.start_coordinator()
        chain.register_homes()
        chain.start_agents()
        chain.wait_online()
        [site] = chain.sites
        data = ["--data", str(chain.cloud)]

        def order(version: str, content: bytes, *more: str) -> None:
            file = tmp_path / f"{version}.onnx"
            file.write_bytes(content)
            words = ("--kind", "model", "--name", "site-forecast", "--version", version, *more, *data)
            digest = command("vpp-cloud", "update", "publish", str(file), *words).split()[-1]
            command("vpp-cloud", "update", "roll-out", digest, "--all", *data)

        def becomes(version: str, state: str) -> str:
            def shown() -> str:
                program = str(Path(sys.executable).parent / "vpp-cloud")
                done = subprocess.run([program, "update", "show", *data], capture_output=True, text=True, timeout=60)
                return done.stdout if f"site-forecast {version}  {state}" in done.stdout else ""

            wait_until(lambda: bool(shown()), f"{version} {state}", within_s=60, processes=chain.processes)
            return shown()

        def expected() -> str:
            chain.processes.signal(f"agent-{site}", signal.SIGUSR1)  # it writes its figures
            with contextlib.suppress(FileNotFoundError):
                return str((chain.agent_statistics(site)["expected"] or {}).get("source"))
            return "nothing yet"

        order("1.0.0", models.column(), "--minimum-version", "1.0.0")
        becomes("1.0.0", "healthy")
        wait_until(
            lambda: expected() == "model site-forecast 1.0.0",
            "the new model forecasts",
            within_s=30,
            processes=chain.processes,
        )
        order("1.1.0", models.constant(math.nan))
        assert "(its load is not finite)" in becomes("1.1.0", "rolled_back")
        order("1.2.0", models.column(factor=3.0))
        assert "is nothing like them" in becomes("1.2.0", "rolled_back")
        order("0.9.0", models.column())
        assert "version 0.9.0 is below the minimum 1.0.0" in becomes("0.9.0", "refused")
        assert expected() == "model site-forecast 1.0.0", "the one before goes on"
        acts = [entry.action for entry in chain.ledger.audit_entries() if entry.action.startswith("update.")]
        assert acts == [
            *("update.published", "update.ordered", "update.healthy"),
            *("update.published", "update.ordered", "update.rolled_back") * 2,
            *("update.published", "update.ordered", "update.refused"),
        ]
