"""`vpp-cloud site configure`: kept as a revision, audited, and refused where no agent could take it."""

from pathlib import Path

import pytest

from cloud.cli import main
from cloud.data_folder import DataFolder
from cloud.store.ledger import Ledger


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "cloud")
    folder.path.mkdir()
    folder.version.write_text("1\n")
    with Ledger(folder.ledger) as ledger:
        ledger.add_site("home-01", (), 1)
    return folder


def configure(data: DataFolder, *arguments: object) -> int:
    return main(["site", "configure", "home-01", *map(str, arguments), "--data", str(data.path)])


def test_each_change_is_a_revision_in_the_audit_log(data: DataFolder, tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("[control]\nexport_limit_w = 3000\n")
    assert configure(data, file) == 0
    assert configure(data, "--remove") == 0
    with Ledger(data.ledger) as ledger:
        site = ledger.site("home-01")
        audited = [entry for entry in ledger.audit_entries() if entry.action == "site.configured"]
    assert site is not None
    assert (site.remote_revision, site.remote_toml) == (2, "")
    assert [entry.subject for entry in audited] == ["home-01", "home-01"]
    assert "export_limit_w = 3000" in audited[0].detail


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param('site = "home-02"\n', "$.site: unknown key", id="identity"),
        pytest.param("[control]\nsoc_min = 2\n", "$.control.soc_min: ", id="out of range"),
        pytest.param("# " + "x" * 20_000, "at most 16384", id="too long"),
    ],
)
def test_what_no_agent_could_take_is_refused(
    text: str, named: str, data: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(text)
    assert configure(data, file) == 2
    assert named in capsys.readouterr().err
    with Ledger(data.ledger) as ledger:
        assert ledger.site("home-01").remote_revision is None  # type: ignore[union-attr]


def test_a_site_that_is_not_there_is_refused(data: DataFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "configure", "home-09", "--remove", "--data", str(data.path)]) == 2
    assert "'home-09' is unknown" in capsys.readouterr().err
