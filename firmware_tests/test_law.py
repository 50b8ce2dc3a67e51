"""The relay's law: the curve against published points and the agent's own law, switching against what it promises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.control.frequency_response import CurveLaw
from firmware_tests.waveforms import write
from hil.bench.firmware import bad_data
from protos.services import Curve

CURVES = json.loads((Path(__file__).parent / "data" / "law_points.json").read_text())["curves"]
REST, SHED, ABSORB, HOT, COLD, MANUAL, LOCKED, MINIMUM_TIME = range(8)
QUICK = {"least_on_ms": 0, "least_off_ms": 0, "spread_ms": 0, "return_spread_ms": 0, "delay_ms": 200, "return_ms": 1000}
STAGE = {**QUICK, "service": "stages", "under_uhz": 49_000_000, "return_uhz": 49_900_000}
LOW, NORMAL, MIDDLE = 48_900_000, 50_000_000, 49_500_000
WARM = 600


def play(run: Any, folder: Path, settings: dict[str, Any], steps: list[list[Any]], seed: int = 1) -> list[list[Any]]:
    file = folder / "play.json"
    file.write_text(json.dumps({"settings": settings, "seed": seed, "steps": steps}))
    return run("play.py", file)


def integers(knots: list[list[float]]) -> list[int]:
    return [round(number * 1e6) for knot in knots for number in knot]


def test_curves_at_published_points_and_as_the_agent_has_them(on_both: Any, tmp_path: Path) -> None:
    file = tmp_path / "curves.json"
    asked, agents, published = [], [], []
    for curve in CURVES.values():
        law = CurveLaw(
            curve=Curve(reference="contracted", knots=tuple((x, y) for x, y in curve["knots"])),
            nominal_hz=curve["nominal_hz"],
            scale=1.0,
        )
        deviations = [round((hz - curve["nominal_hz"]) * 1e6) for hz, _ in curve["points"]]
        between = [round(-4.9e6 + i * 24_617) for i in range(400)]
        asked.append([integers(curve["knots"]), deviations + between])
        published.append([share for _, share in curve["points"]])
        agents.append([law.target(curve["nominal_hz"] + uhz / 1e6) for uhz in deviations + between])
    file.write_text(json.dumps(asked))
    for shares, points, agent in zip(on_both("curve.py", file), published, agents, strict=True):
        ours = [ppm / 1e6 for ppm in shares]
        assert ours[: len(points)] == pytest.approx(points, abs=2e-6)
        assert agent[: len(points)] == pytest.approx(points, abs=2e-6)
        assert ours == pytest.approx(agent, abs=2e-6)


def test_a_stage_sheds_after_its_delay_and_returns(on_both: Any, tmp_path: Path) -> None:
    steps = [[100, NORMAL, True, WARM, None], [50, LOW, True, WARM, None], [50, MIDDLE, True, WARM, None]]
    steps += [[200, NORMAL, True, WARM, None]]
    assert play(on_both, tmp_path, STAGE, steps) == [
        [1, True, REST],
        [111, False, SHED],  # more than 200 ms below
        [251, True, REST],  # more than 1 s back above the higher threshold
        [400, True, REST],
    ]


@pytest.mark.parametrize("seed", range(2))
def test_bad_data_never_sheds(on_both: Any, tmp_path: Path, seed: int) -> None:
    steps = [[9, LOW, True, WARM, None], [1, LOW, False, WARM, None]] * 50 + [[500, 0, False, None, None]]
    assert play(on_both, tmp_path, STAGE, steps, seed) == [[1, True, REST], [1000, True, REST]]


def test_no_bad_waveform_switches_an_eager_relay_and_a_real_event_does(on_vm: Any, tmp_path: Path) -> None:
    """Every case that the bench counts `false_actions` on. CPython estimates the same (`test_estimator.py`)."""
    t = np.arange(4 * 4000) / 4000
    falls = np.cos(2 * np.pi * (50 * t - 0.25 * np.clip(t - 2.0, 0.0, None) ** 2))  # by 0.5 Hz/s from 2 s on
    waves = {**bad_data(), "a real event": falls}
    files = [write(tmp_path / str(i), wave) for i, wave in enumerate(waves.values())]
    switched = dict(zip(waves, on_vm("actions.py", *files), strict=True))
    assert {name: count for name, count in switched.items() if count} == {"a real event": 1}


def test_a_shed_relay_that_goes_blind_returns(on_both: Any, tmp_path: Path) -> None:
    steps = [[20, LOW, True, WARM, None], [100, LOW, False, WARM, None]]
    assert play(on_both, tmp_path, STAGE, steps)[-1] == [120, True, REST]


def test_randomised_delays_differ_and_stay_in_their_bounds(on_both: Any, tmp_path: Path) -> None:
    settings = {**STAGE, "spread_ms": 2000, "return_spread_ms": 4000}
    shed, back = set(), set()
    for seed in range(1, 7):
        steps = [[200, LOW, True, WARM, None], [400, NORMAL, True, WARM, None]]
        rows = play(on_both, tmp_path, settings, steps, seed * 7919)
        shed.add(rows[1][0])
        back.add(rows[2][0])
        assert 10 < rows[1][0] <= 111
        assert 250 < rows[2][0] <= 452
    assert len(shed) > 3
    assert len(back) > 3


def test_a_hundred_relays_follow_the_curve_together(on_cpython: Any, tmp_path: Path) -> None:
    """Share shed at -0.35 Hz of DC is 0.525; each relay is all or nothing."""
    settings = {**QUICK, "service": "curve", "knots_uhz_ppm": integers(CURVES["DC"]["knots"])}
    program = tmp_path / "many.py"
    program.write_text(
        "import json, settings\n"
        "from law import RelayLaw\n"
        f"given = settings.load(json.dumps({{'relay': {settings!r}}}))\n"
        "relays = [RelayLaw(given['relay'], 50, 104729 * n + 12345) for n in range(400)]\n"
        "for relay in relays:\n"
        "    relay.step(49_650_000, True, None, 20)\n"
        "print(sum(not relay.on for relay in relays))\n"
    )
    (off,) = on_cpython(program)
    assert off / 400 == pytest.approx(0.525, abs=0.08)


@pytest.mark.parametrize(
    ("settings", "steps", "expected"),
    [
        pytest.param({}, [[20, LOW, True, 350, None]], [True, COLD], id="comfort comes before the service"),
        pytest.param({}, [[20, NORMAL, True, 800, None]], [False, HOT], id="too hot is off"),
        pytest.param({}, [[20, NORMAL, True, 900, [1, 60]]], [False, HOT], id="too hot is off, whoever wants it on"),
        pytest.param({}, [[20, LOW, True, WARM, [1, 60]]], [True, MANUAL], id="a person comes before the service"),
        pytest.param({}, [[20, NORMAL, True, WARM, [2, 60]]], [False, MANUAL], id="switched off by hand"),
        pytest.param({}, [[60, NORMAL, True, WARM, [2, 1]]], [True, REST], id="a manual override ends"),
        pytest.param(
            {"least_off_ms": 60_000},
            [[20, LOW, True, WARM, None], [500, NORMAL, True, WARM, None]],
            [False, MINIMUM_TIME],
            id="least time off",
        ),
        pytest.param(
            {"most_switched_an_hour": 2, "return_ms": 100},
            [[20, LOW, True, WARM, None], [20, NORMAL, True, WARM, None], [20, LOW, True, WARM, None]],
            [True, LOCKED],
            id="locked out after too many switchings",
        ),
        pytest.param({}, [[20, LOW, True, None, None]], [False, SHED], id="without a sensor the service decides"),
    ],
)
def test_who_has_the_last_word(
    on_both: Any, tmp_path: Path, settings: dict[str, Any], steps: list[list[Any]], expected: list[Any]
) -> None:
    assert play(on_both, tmp_path, {**STAGE, **settings}, steps)[-1][1:] == expected


def test_too_much_generation_switches_a_resting_load_on(on_both: Any, tmp_path: Path) -> None:
    knots = integers(CURVES["DC"]["knots"])
    settings = {**QUICK, "service": "curve", "knots_uhz_ppm": knots, "rest_on": False}
    rows = play(on_both, tmp_path, settings, [[20, NORMAL, True, WARM, None], [20, 50_500_000, True, WARM, None]])
    assert rows[-1] == [40, True, ABSORB]
