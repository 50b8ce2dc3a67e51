"""Every fuzz target takes its seeds and its kept corpus, and the command finds what a parser does wrong."""

import json
import subprocess
import sys

import pytest

from hil.fuzz.command import CORPUS, LARGEST_CORPUS, read_record
from hil.fuzz.target import must
from hil.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_target_takes_its_seeds_and_its_corpus(name: str) -> None:
    target = TARGETS[name]
    kept = sorted((CORPUS / name).iterdir())
    assert 0 < len(kept) <= LARGEST_CORPUS
    for data in (b"", *target.seeds, *(path.read_bytes() for path in kept)):
        target.one(data)


def test_ten_million_executions_are_recorded_over_the_work() -> None:
    record = read_record()
    assert set(record) == set(TARGETS)
    assert sum(record.values()) >= 10_000_000


def test_the_command_runs_a_target_and_says_how_often() -> None:
    command = [sys.executable, "-m", "hil.cli", "fuzz", "site-name", "--executions", "2000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["fuzz_executions"] >= 2000
    assert found["fuzz_crashes"] == 0


def test_an_unknown_target_is_refused() -> None:
    command = [sys.executable, "-m", "hil.cli", "fuzz", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "is unknown: use intent, " in done.stderr) == (2, True)


def test_what_must_hold_and_does_not_is_a_finding() -> None:
    with pytest.raises(AssertionError, match="it leaves its folder"):
        must(False, "it leaves its folder")
