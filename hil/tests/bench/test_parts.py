"""A part of a bench that fails is named, and costs the figures of no other."""

import argparse
import json

import pytest

from hil.bench import command
from hil.bench.edge import bench_edge
from hil.bench.parts import measured
from hil.run.processes import ChainError, ChainRefused


def test_the_other_parts_keep_their_figures() -> None:
    def broken() -> dict[str, float]:
        raise ChainError("rtu at 19200 baud: the device was not found")

    told: list[str] = []
    figures, failed = measured({"loop": lambda: {"a": 1.0}, "rtu": broken, "services": lambda: {"b": 2.0}}, told.append)
    assert figures == {"a": 1.0, "b": 2.0}
    assert failed == {"rtu": "rtu at 19200 baud: the device was not found"}
    assert "bench: rtu failed: rtu at 19200 baud: the device was not found" in told


def test_the_command_prints_what_there_is_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"step_to_write_ms_p99": 20.0, "failed": {"outage": "no space left"}}
    given = argparse.Namespace(json=True, measure=lambda arguments, say: figures)
    assert command.run(given) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == figures
    assert printed.err == "vpp-hil: no figures of outage: no space left\n"


def test_what_cannot_be_measured_is_refused_before_anything_starts() -> None:
    with pytest.raises(ChainRefused, match="--outage-hours 200: give 0 to 168"):
        bench_edge(seconds=60, outage_hours=200, install=False, folder=None, say=lambda _: None)
