"""A model runs in a process of its own: what it says is believed only where it can be true, and a bad one is named."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.forecast.exchange import PAST, Request
from edge_agent.forecast.features import NAMES
from edge_agent.forecast.horizon import DAY, HORIZON
from edge_agent.forecast.runner import run_model
from edge_agent.tests.forecast import models

WHOLE = models.column()
SHIPPED = Path(models.__file__).parents[2] / "forecast" / "site-forecast.onnx"


def request(path: Path, *, check: bool = True) -> Request:
    """Of a home whose load has an evening and whose sun shines by day, alike every day."""
    hours = [quarter / 4 for quarter in range(DAY)]
    load = [300.0 + 900.0 * math.exp(-((hour - 19) ** 2) / 4) for hour in hours]
    sun = [2000.0 * max(0.0, math.sin((hour - 6) / 12 * math.pi)) for hour in hours]
    days = PAST // DAY
    return Request(
        model=str(path), check=check, weekday=0, quarter=0, load_w=tuple(load * days), sun_w=tuple(sun * days)
    )


async def test_what_a_good_model_says_is_the_forecast(tmp_path: Path) -> None:
    (tmp_path / "good.onnx").write_bytes(models.column(NAMES.index("lag 1 d")))
    asked = request(tmp_path / "good.onnx")
    answer = await run_model(asked)
    assert answer.fault == ""
    for said, was in ((answer.load_w, asked.load_w), (answer.sun_w, asked.sun_w)):
        assert said == pytest.approx([was[quarter % DAY] for quarter in range(HORIZON)], abs=0.1)
    assert [answer.error_w, answer.persistence_error_w] == pytest.approx([0.0, 0.0], abs=0.01)


async def test_the_model_that_ships_passes_and_forecasts_only_what_was_measured(tmp_path: Path) -> None:
    asked = request(SHIPPED)
    answer = await run_model(asked)
    assert answer.fault == ""
    assert answer.error_w is not None
    assert answer.error_w < 0.25 * (sum(asked.load_w) + sum(asked.sun_w)) / PAST  # type: ignore[arg-type]
    none = (None,) * PAST
    dark = await run_model(Request(**{**{f: getattr(asked, f) for f in asked.__struct_fields__}, "sun_w": none}))
    assert (dark.sun_w, dark.load_w) == (None, answer.load_w)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "is no ONNX model", id="empty"),
        pytest.param(b"\x08\x08" + bytes(range(256)) * 20, "is no ONNX model", id="garbage"),
        pytest.param(WHOLE[: len(WHOLE) // 2], "is no", id="half of it"),
        pytest.param(WHOLE.replace(b"Gather", b"Gother"), "does not load", id="an operator that nobody knows"),
        pytest.param(models.constant(math.nan), "its load is not finite", id="not a number"),
        pytest.param(models.constant(math.inf), "its load is not finite", id="infinite"),
        pytest.param(models.constant(1e6), "times what is usual here", id="absurd"),
        pytest.param(models.constant(1.0, (HORIZON - 1,)), "of shape (143,)", id="too short"),
        pytest.param(models.constant(1.0, (HORIZON, 1)), "of shape (144, 1)", id="too many dimensions"),
        pytest.param(models.constant(4.0), "is nothing like them", id="says the same whatever it sees"),
        pytest.param(models.constant(1.0, told={}), "a model of 'something else'", id="for nobody knows what"),
        pytest.param(
            models.constant(1.0, told={**models.METADATA, "murmuration.format": "9"}), "format '9'", id="newer format"
        ),
        pytest.param(models.hungry(), "does not run", id="wants 4 GB of memory"),
    ],
)
async def test_a_bad_model_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    answer = await run_model(request(tmp_path / "bad.onnx"))
    assert says in answer.fault
    assert (answer.load_w, answer.sun_w) == (None, None)


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert (await run_model(request(tmp_path / "none.onnx"))).fault == "it cannot be read: No such file or directory"


def test_the_base_installation_needs_neither_numpy_nor_onnxruntime() -> None:
    """They are in the process that runs the model, and in no other."""
    program = "import sys, edge_agent.sync.process, edge_agent.cli; print({'numpy', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
