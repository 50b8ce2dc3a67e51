"""`vpp-agent replay`: a day that a rig recorded comes out as stored, and what changes it is seen.

days/underfrequency: what `vpp-hil run` wrote of its first home (days/home-01), which is the shipped scenario: recorded
load and PV, the recorded fall to 59.77 Hz, the schedule and the ERCOT fast frequency response that were asked.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.commands.recorded_day import load_day
from edge_agent.commands.replay import Tolerance, differences
from protos.settings import SettingsError

DAYS = Path(__file__).parent / "days"
DAY, CONFIG = DAYS / "underfrequency.toml", DAYS / "home.toml"
SAMPLES = "t_s,frequency_hz,load_w,pv_w\n0,50.0,500,0\n10,50.1,500,100\n20,50.0,,100\n"
SMALL = """
samples = "day.csv"
start_utc = 2026-03-29T00:00:00Z
nameplate = { rated_power_w = 5000, max_charge_w = 5000, max_discharge_w = 5000, storage_capacity_wh = 10000 }
"""


def replayed(*arguments: object) -> int:
    return main(["replay", "--config", str(CONFIG), "--show-every-s", "10", *map(str, arguments)])


def test_the_recorded_day_comes_out_as_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert replayed(DAY) == 0, capsys.readouterr().out
    stored = DAY.with_suffix(".expected.txt").read_text()
    assert "service.triggered: ercot-ffr triggered at 59.8" in stored
    assert "setpoint  604 W, applied, by schedule+ercot-ffr" in stored  # -2396 W of the schedule and 3000 W on top


def test_an_owners_limit_parts_from_what_was_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limited = tmp_path / "home.toml"
    limited.write_text(CONFIG.read_text() + "\n[control]\nimport_limit_w = 1000\n")
    assert main(["replay", "--config", str(limited), "--show-every-s", "10", str(DAY)]) == 1
    out = capsys.readouterr().out
    assert "-      20.0 s  setpoint  -2396 W, applied, by schedule" in out
    assert "lines part from" in out


def test_update_stores_what_the_next_replay_agrees_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = tmp_path / "result.txt"
    assert replayed(DAY, "--expected", expected) == 2
    assert "store a first result with --update" in capsys.readouterr().err
    assert replayed(DAY, "--expected", expected, "--update") == 0
    assert replayed(DAY, "--expected", expected) == 0
    text = expected.read_text()
    expected.write_text(text.replace("setpoint  604 W", "setpoint  612 W"))
    assert replayed(DAY, "--expected", expected) == 1
    assert replayed(DAY, "--expected", expected, "--tolerance-w", "8") == 0
    expected.write_text(text.replace("applied, by schedule+ercot-ffr", "clipped by ramp, by schedule+ercot-ffr"))
    assert replayed(DAY, "--expected", expected, "--tolerance-w", "1e6") == 1


def test_lines_are_matched_by_their_words_and_numbers_by_tolerance() -> None:
    before = ["1.0 s  setpoint  100 W, 50.000 Hz", "2.0 s  event a"]
    now = ["1.0 s  setpoint  104 W, 50.001 Hz", "1.5 s  event b", "2.0 s  event a"]
    assert differences(before, now, Tolerance()) == ["+ 1.5 s  event b"]
    assert differences(before[:1], now[:1], Tolerance(power_w=3.0)) == [f"- {before[0]}", f"+ {now[0]}"]
    assert len(differences(["1.0 s  50.000 Hz"], ["1.0 s  50.003 Hz"], Tolerance())) == 2


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "day.csv").write_text(SAMPLES)
    day = tmp_path / "day.toml"
    day.write_text(SMALL)
    return day


def test_between_samples_is_a_line_and_an_empty_cell_was_not_measured(small: Path) -> None:
    day = load_day(small, "home-01")
    assert day.at("frequency_hz", 5.0) == pytest.approx(50.05)
    assert day.at("pv_w", 2.5) == pytest.approx(25.0)
    assert day.at("load_w", 15.0) != day.at("load_w", 15.0)
    assert day.duration_s == 20.0


def test_a_failed_reading_is_nothing_to_act_on(small: Path) -> None:
    (small.parent / "day.csv").write_text("t_s,frequency_hz,load_w,pv_w\n0,50,500,0\n5,50,500,0\n6,,500,0\n20,,500,0\n")
    assert replayed(small, "--update") == 0
    lines = small.with_suffix(".expected.txt").read_text().splitlines()
    assert "no Hz" in next(line for line in lines if line.strip().startswith("10.0 s"))


def test_a_state_of_charge_that_was_recorded_is_what_the_agent_sees(small: Path) -> None:
    (small.parent / "day.csv").write_text("t_s,frequency_hz,load_w,pv_w,soc\n0,50,500,0,0.05\n20,50,500,0,0.05\n")
    assert replayed(small, "--update") == 0
    assert "soc 0.050" in (text := small.with_suffix(".expected.txt").read_text())
    assert "500 W" not in text  # an empty storage does not carry the load


ASKED = "\n[[intents]]\nvalid_from_s = 0\nexpires_s = 10\n"
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no samples": (lambda folder: (folder / "day.csv").unlink(), "day.csv: cannot be read"),
    "a column is missing": (lambda folder: _samples(folder, "t_s,load_w\n0,1\n"), "column frequency_hz is missing"),
    "an unknown column": (lambda folder: _samples(folder, SAMPLES.replace("pv_w", "pv_w,watts")), "'watts' is unknown"),
    "one sample": (lambda folder: _samples(folder, "\n".join(SAMPLES.split("\n")[:2])), "has 1 samples"),
    "time goes back": (lambda folder: _samples(folder, SAMPLES.replace("\n20,", "\n5,")), "line 4: t_s 5.0"),
    "a word for a number": (lambda folder: _samples(folder, SAMPLES.replace("50.1", "high")), "line 3: frequency_hz"),
    "a short row": (lambda folder: _samples(folder, SAMPLES + "30,50\n"), "line 5: has 2 cells"),
    "nothing asked": (lambda folder: _day(folder, ASKED + "asks = {}\n"), "$.intents[0]: asks: holds nothing"),
    "an unknown service": (
        lambda folder: _day(folder, ASKED + 'asks.arm = { award_id = "a", service_id = "none", contracted_w = 1 }\n'),
        "$.intents[0]: asks.arm: ",
    ),
    "a body nobody knows": (lambda folder: _day(folder, ASKED + "asks.wish = {}\n"), "asks: holds wish; give one of"),
    "a key nobody knows": (lambda folder: _day(folder, ASKED + "asks.arm = { watts = 1 }\n"), "$.intents[0]: asks: "),
}


def _samples(folder: Path, text: str) -> None:
    (folder / "day.csv").write_text(text)


def _day(folder: Path, more: str) -> None:
    (folder / "day.toml").write_text(SMALL + more)


@pytest.mark.parametrize("name", BAD)
def test_a_day_that_cannot_be_used_is_refused_in_one_line(
    name: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, named = BAD[name]
    spoil(small.parent)
    assert replayed(small, "--update") == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1


def test_a_day_beside_another_site_takes_that_sites_name(small: Path, tmp_path: Path) -> None:
    shutil.copy(small, tmp_path / "copy.toml")
    (tmp_path / "copy.toml").write_text(
        SMALL + ASKED + 'asks.arm = { award_id = "a", service_id = "ercot-ffr", contracted_w = 1 }\n'
    )
    [intent] = load_day(tmp_path / "copy.toml", "home-77").intents
    assert intent.site == "home-77"
    assert intent.arm.service_toml
    with pytest.raises(SettingsError, match="cannot be read"):
        load_day(tmp_path / "none.toml", "home-77")
