"""`vpp-cloud group`, `resource` and `tariff` as a person types them."""

import re
from pathlib import Path

import pytest

from cloud.cli import main
from cloud.data_folder import DataFolder
from cloud.model.assets import Resource
from cloud.model.records import Description
from cloud.store.ledger import Ledger


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    data = DataFolder(tmp_path / "data")
    with data.owned(), Ledger(data.ledger) as ledger:
        ledger.add_site("home-01", ("fast",), now_ms=1)
        told = Description(
            agent_version="1",
            rated_power_w=5000,
            max_charge_w=0,
            max_discharge_w=0,
            storage_capacity_wh=0,
            soc_min=0,
            soc_max=1,
        )
        device = Resource(site="home-01", name="hybrid", manufacturer="M", model="H5", serial="", rated_power_w=5000)
        ledger.set_description("home-01", told, 1, [device])
    return data


def run(data: DataFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main([*arguments, "--data", str(data.path)])
    told = capsys.readouterr()
    return code, told.out if code == 0 else told.err


def test_groups_are_said_and_listed_with_those_that_only_sites_name(
    data: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, capsys, "group", "add", "area", "--kind", "market-area") == (0, "group area is a market-area\n")
    code, out = run(data, capsys, "group", "add", "f1", "--kind", "feeder", "--parent", "area")
    assert (code, out) == (0, "group f1 is a feeder in area\n")
    _, out = run(data, capsys, "group", "list")
    assert [line.split() for line in out.splitlines()] == [
        ["group", "kind", "parent", "sites"],
        ["area", "market-area", "-", "0"],
        ["f1", "feeder", "area", "0"],
        ["fast", "-", "-", "1"],
    ]
    code, err = run(data, capsys, "group", "add", "fast", "--kind", "feeder", "--parent", "area")
    assert (code, "1 of its sites are not in 'area' (home-01)" in err) == (2, True)
    assert run(data, capsys, "group", "remove", "f1")[0] == 0


def test_devices_are_listed_with_their_nameplates(data: DataFolder, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(data, capsys, "resource", "list", "--site", "home-01")
    assert out.splitlines()[1].split() == ["home-01", "hybrid", "M", "H5", "-", "5000", "-", "-", "-"]
    assert run(data, capsys, "resource", "list", "--site", "home-02")[0] == 2


def test_a_tariff_is_imported_and_listed(data: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "retail.csv"
    file.write_text(
        "utc_start,interval_s,import,export\n2026-11-28T00:00Z,3600,0.31,0.08\n2026-11-28T02:00Z,3600,-0.02,0.05\n"
    )
    code, out = run(data, capsys, "tariff", "import", "retail", str(file), "--currency", "EUR")
    assert (code, out) == (0, "2 rates are in tariff retail\n")
    _, out = run(data, capsys, "tariff", "list")
    assert out.splitlines()[1].split() == ["retail", "EUR", "3600", "2", "2026-11-28", "00:00", "2026-11-28", "03:00"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param("utc_start,import\n", "row 1: the header must be", id="header"),
        pytest.param("", "has no rows", id="empty"),
        pytest.param("2026-11-28T00:00,3600,1,1", "row 2: utc_start .* has no time zone", id="no zone"),
        pytest.param("today,3600,1,1", "is not an ISO 8601 instant", id="no instant"),
        pytest.param("2026-11-28T00:00Z,1,1,1", "interval_s '1': whole seconds, from 60", id="interval"),
        pytest.param("2026-11-28T00:10Z,3600,1,1", "not a multiple of its interval", id="off the grid"),
        pytest.param("2026-11-28T00:00Z,3600,nan,1", "import 'nan': a price of a kWh", id="no price"),
        pytest.param("2026-11-28T00:00Z,3600,1", "4 fields expected, found 3", id="short"),
        pytest.param(
            "2026-11-28T00:00Z,3600,1,1\n2026-11-28T00:00Z,3600,1,1", "row 3: .* before the row above ends", id="twice"
        ),
        pytest.param(
            "2026-11-28T00:00Z,3600,1,1\n2026-11-28T01:00Z,900,1,1",
            "row 3: interval_s 900: all of a tariff have the same, here 3600",
            id="mixed",
        ),
    ],
)
def test_a_file_that_is_no_tariff_is_refused_by_row(
    data: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, says: str
) -> None:
    file = tmp_path / "bad.csv"
    header = "" if rows.startswith("utc_start") else "utc_start,interval_s,import,export\n"
    file.write_text(header + rows + "\n")
    code, err = run(data, capsys, "tariff", "import", "retail", str(file), "--currency", "EUR")
    assert code == 2
    assert re.search(says, err), err
