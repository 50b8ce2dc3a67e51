"""The chain as the end-to-end tests run it: small, on a 20 s stretch of the recording, everything real."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path

import psutil
import pytest

from hil.run.chain import Chain, chain

STRETCH = "[60.0, 80.0]"  # seconds of the recording: the fall through 59.85 Hz and the minimum of 59.77 Hz


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """The shipped scenario, cut to a stretch of its recording and a quick return."""
    text = (resources.files("hil.scenarios") / "underfrequency.toml").read_text(encoding="utf-8")
    cut = text.replace("bus = 1", f"window_s = {STRETCH}\nbus = 1").replace("= 0.005", "= 0.05")
    path = tmp_path / "stretch.toml"
    path.write_text(cut, encoding="utf-8")
    return str(path)


@pytest.fixture
def running_chain(scenario: str, tmp_path: Path) -> Callable[[int], AbstractContextManager[Chain]]:
    """A chain of some homes, all of whose processes have ended after the block."""

    @contextmanager
    def start(homes: int) -> Iterator[Chain]:
        folder = tmp_path / "chain"
        with chain(folder, homes=homes, scenario=scenario, say=print) as running:
            yield running
        assert _left_behind(folder) == []

    return start


@pytest.fixture
def left_behind() -> Callable[[Path], list[str]]:
    """Command lines of live processes that name a folder."""
    return _left_behind


def _left_behind(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(folder) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found
