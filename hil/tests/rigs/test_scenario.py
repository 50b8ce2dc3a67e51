"""Scenario files: the shipped ones load, bad ones say what is wrong."""

from pathlib import Path

import pytest

from hil.rigs.scenario import ScenarioError, load, shipped_names

SHIPPED = Path(__file__).parents[2] / "scenarios" / "underfrequency.toml"


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_scenarios_load_by_name(name: str) -> None:
    assert load(name).id == name


def test_homes_are_inside_their_ranges_and_differ() -> None:
    homes = [load("underfrequency").home(i) for i in range(12)]
    assert [home.site for home in homes] == [f"home-{i:02d}" for i in range(1, 13)]
    assert all(10_000 <= home.rating.battery.capacity_wh <= 13_500 for home in homes)
    assert all(3000 <= home.rating.pv_w <= 6000 for home in homes)
    assert all(0.55 <= home.soc <= 0.75 for home in homes)
    assert len({(home.rating.pv_w, home.rating.battery.capacity_wh, home.soc) for home in homes}) == 12


def test_a_home_is_the_same_every_time() -> None:
    assert load("underfrequency").home(7) == load(str(SHIPPED)).home(7)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param("bus = 1", "buss = 1", "unknown field `buss` - at `\\$.frequency`", id="unknown key"),
        pytest.param("bus = 1", "bus = 3", "<= 2 - at `\\$.frequency.bus`", id="unrecorded bus"),
        pytest.param("inverter_w = 5000", "inverter_w = -1", r"> 0.* - at `\$.homes.inverter_w`", id="negative rating"),
        pytest.param("seed = 20160921", "", "missing required field `seed`", id="missing key"),
        pytest.param("T14:00:00", "T14:00:00Z", "no timezone", id="a recorded time with a zone"),
        pytest.param("[homes]", "[homes", "scenario ", id="not TOML"),
    ],
)
def test_a_bad_scenario_names_file_key_and_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SHIPPED.read_text().replace(old, new))
    with pytest.raises(ScenarioError, match=reason) as refusal:
        load(str(path))
    assert str(path) in str(refusal.value)


def test_an_unknown_scenario_names_the_shipped_ones() -> None:
    with pytest.raises(ScenarioError, match=r"'overfrequency': neither a file .* nor one of underfrequency"):
        load("overfrequency")
