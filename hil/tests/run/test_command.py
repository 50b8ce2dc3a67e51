"""`vpp-hil run` as a person meets it: stopped in the middle, and refused."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).parent / "vpp-hil")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_in_the_middle_it_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path, left_behind: Callable[[Path], list[str]]
) -> None:
    folder = tmp_path / "run"
    arguments = [COMMAND, "run", "--homes", "2", "--data", str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        seen = []
        for line in run.stdout:
            seen.append(line)
            if "reporting" in line:  # broker, coordinator, rig, market and both processes of every agent run
                break
        assert len(left_behind(folder)) >= 8, seen
        run.send_signal(number)
        rest, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert "every process was stopped" in rest
    assert errors == ""
    assert left_behind(folder) == []


def test_what_cannot_be_run_is_refused_in_one_line(tmp_path: Path) -> None:
    arguments = [COMMAND, "run", "--homes", "2", "--scenario", "nothing", "--data", str(tmp_path / "run")]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "scenario 'nothing'" in run.stderr
    assert run.stderr.count("\n") == 1
