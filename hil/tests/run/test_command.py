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


REFUSED = {
    "an unknown scenario": (["run", "--homes", "2", "--scenario", "nothing"], "scenario 'nothing'"),
    "no home at all": (["run", "--homes", "0"], "1 to 66 homes"),
    "a picture that cannot be kept": (["run", "--picture", "nowhere/picture.png"], "nowhere/picture.png"),
    "a bench of no time": (["bench", "chain", "--seconds", "-1"], "--seconds -1"),
}


@pytest.mark.parametrize(("asked", "named"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_run_is_refused_in_one_line(asked: list[str], named: str, tmp_path: Path) -> None:
    refused = _refused([*asked, "--data", str(tmp_path / "run")], tmp_path)
    assert named in refused


def test_a_folder_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    used = tmp_path / "used"
    (used / "rig").mkdir(parents=True)  # an earlier run's rig.json would be taken for this one's
    file = tmp_path / "file"
    file.touch()
    for folder, finding in ((used, "not empty"), (file, "cannot be used"), (file / "below", "cannot be used")):
        for command in (["run"], ["bench", "chain"]):
            refused = _refused([*command, "--data", str(folder)], tmp_path)
            assert str(folder) in refused
            assert finding in refused


def test_an_installation_without_its_extra_says_which_to_install() -> None:
    without = "import sys; sys.modules['numpy'] = None; from hil.cli import main; main(['run'])"
    run = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert run.stderr == "vpp-hil: numpy is missing; install it: pip install 'murmuration-vpp[hil]'\n"


def _refused(arguments: list[str], folder: Path) -> str:
    run = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("vpp-hil: ")
    assert run.stderr.count("\n") == 1
    return run.stderr
