"""`vpp-hil fuzz`: mutates what parsers are given, led by coverage, and keeps book of how often.

A finding is printed with its input; the corpus beside this file is the smallest inputs that reached new code.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hil.run.collect import machine

CORPUS: Final = Path(__file__).parent / "corpus"
RECORD: Final = Path(__file__).parent / "record.json"
LARGEST_CORPUS: Final = 40  # files of a target that are kept
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A target's run."""

    target: str
    executions: int
    seconds: float
    finding: str  # empty: none


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them unless given; --list names them")
    parser.add_argument("--list", action="store_true", help="name the targets and who can reach them")
    parser.add_argument("--seconds", type=int, default=5, help="for each target (default 5)")
    parser.add_argument("--executions", type=int, default=-1, help="for each target, at most (default: no limit)")
    parser.add_argument("--keep", action="store_true", help="add to the record of executions, and to the corpus")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> int:
    from hil.fuzz.targets import TARGETS

    unknown = sorted(set(arguments.targets) - set(TARGETS))
    if unknown:
        sys.stderr.write(f"vpp-hil: fuzz target {unknown[0]!r} is unknown: use {', '.join(TARGETS)}\n")
        return 2
    if arguments.list:
        for target in TARGETS.values():
            _say(f"{target.name:20} {target.faces}")
        return 0
    outcomes = []
    for name in arguments.targets or TARGETS:
        outcome = fuzz(name, TARGETS[name].seeds, arguments.seconds, arguments.executions, keep=arguments.keep)
        outcomes.append(outcome)
        if not arguments.json:
            told = f"FINDING {outcome.finding}" if outcome.finding else "nothing found"
            _say(f"{name:20} {outcome.executions:>10,} executions in {outcome.seconds:6.1f} s: {told}")
    if arguments.keep:
        keep(outcomes)
    if arguments.json:
        _say(
            json.dumps(
                {
                    "fuzz_executions": sum(outcome.executions for outcome in outcomes),
                    "fuzz_executions_recorded": sum(read_record().values()),
                    "fuzz_crashes": sum(bool(outcome.finding) for outcome in outcomes),
                    "targets": [asdict(outcome) for outcome in outcomes],
                    "machine": machine(),
                }
            )
        )
    return 1 if any(outcome.finding for outcome in outcomes) else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fuzz(name: str, seeds: tuple[bytes, ...], seconds: int, executions: int, *, keep: bool) -> Outcome:
    """Runs one target in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="vpp-fuzz-") as folder:
        grown, findings = Path(folder) / "corpus", Path(folder) / "findings"
        for path in (grown, findings):
            path.mkdir()
        for number, seed in enumerate(seeds):
            (grown / f"seed-{number}").write_bytes(seed)
        kept = CORPUS / name
        kept.mkdir(parents=True, exist_ok=True)
        worker = [sys.executable, "-m", "hil.fuzz.worker", name]
        begun = datetime.now(UTC)
        done = subprocess.run(
            [
                *worker,
                f"-max_total_time={seconds}",
                f"-runs={executions}",
                f"-artifact_prefix={findings}/",
                "-print_final_stats=1",
                "-rss_limit_mb=2048",
                "-timeout=10",
                str(grown),
                str(kept),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        took_s = (datetime.now(UTC) - begun).total_seconds()
        counted = _EXECUTED.search(done.stderr)
        finding = ""
        if done.returncode != 0:
            files = sorted(findings.iterdir())
            data = files[0].read_bytes().hex() if files else "no input kept"
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line or "ERROR" in line]
            finding = f"{lines[0].strip() if lines else f'exit code {done.returncode}'} on {data}"
        elif keep:
            # libFuzzer puts what reached new code into its first folder.
            found = {path.name: path.read_bytes() for folder in (kept, grown) for path in folder.iterdir()}
            for path in kept.iterdir():
                path.unlink()
            for file_name in sorted(found, key=lambda one: (len(found[one]), one))[:LARGEST_CORPUS]:
                (kept / file_name).write_bytes(found[file_name])
        return Outcome(target=name, executions=int(counted[1]) if counted else 0, seconds=took_s, finding=finding)


def read_record() -> dict[str, int]:
    """Executions of every target without a finding, over the work."""
    record: dict[str, int] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return record


def keep(outcomes: list[Outcome]) -> None:
    """Adds to the record what ran without a finding."""
    record = read_record()
    for outcome in outcomes:
        if not outcome.finding:
            record[outcome.target] = record.get(outcome.target, 0) + outcome.executions
    RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
