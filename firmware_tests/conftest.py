"""Firmware sources run on the real MicroPython VM with a 200 kB heap, and the same program on CPython."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.rigs.firmware_node import FIRMWARE, HEAP, MODULES, PROGRAMS, micropython

HERE = Path(__file__).parent
Run = Callable[..., Any]


def run_program(vm: str, name: str, *arguments: object) -> list[Any]:
    """What a program of `programs/`, or one of the bench's, printed, a JSON value a line."""
    ours = HERE / "programs" / name
    program = [str(ours if ours.exists() else PROGRAMS / name), *map(str, arguments)]
    if vm == "micropython":
        command = [micropython(), "-X", f"heapsize={HEAP}", *program]
        environment = {"MICROPYPATH": MODULES}
    else:
        command = [sys.executable, *program]
        environment = {"PYTHONPATH": os.pathsep.join((str(HERE / "cpython"), MODULES))}
    run = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False, cwd=FIRMWARE
    )
    assert run.returncode == 0, run.stdout[-1000:] + run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(params=["micropython", "cpython"])
def on_both(request: pytest.FixtureRequest) -> Run:
    """`on_both(program, *arguments)`: on the one and on the other."""
    return lambda *arguments: run_program(request.param, *arguments)


@pytest.fixture(scope="session")
def on_vm() -> Run:
    return lambda *arguments: run_program("micropython", *arguments)


@pytest.fixture(scope="session")
def on_cpython() -> Run:
    return lambda *arguments: run_program("cpython", *arguments)
