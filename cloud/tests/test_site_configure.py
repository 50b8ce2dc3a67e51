"""`vpp-cloud site configure`: asked for, set by a second person, audited, and refused where no agent could take it."""

from pathlib import Path

import pytest

from cloud.cli import main
from cloud.commands import approve, registry
from cloud.data_folder import DataFolder
from cloud.model.approval import CHANGE_MS, Limits
from cloud.store.errors import LedgerError
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


@pytest.fixture(autouse=True)
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the commands, unless a test says otherwise."""
    be("ann", monkeypatch)


def be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (registry, approve):
        monkeypatch.setattr(module, "actor", lambda: f"command:{name}")


def answer(data: DataFolder, verdict: str, number: int) -> int:
    return main(["approve", verdict, str(number), "--data", str(data.path)])


def test_each_change_waits_for_a_second_person_and_is_a_revision_in_the_audit_log(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("[control]\nexport_limit_w = 3000\n")
    for _ in range(2):
        assert configure(data, file) == 0
        assert "nothing is set yet: a second person grants it" in capsys.readouterr().out
    assert answer(data, "grant", 1) == 2
    assert "command:ann asked for it, and cannot grant it" in capsys.readouterr().err
    with Ledger(data.ledger) as ledger:
        assert ledger.site("home-01").remote_revision is None  # type: ignore[union-attr]
    assert main(["approve", "list", "--data", str(data.path)]) == 0
    shown = capsys.readouterr().out
    assert "limits of home-01 by command:ann  (waits)\n      [control]\n      export_limit_w = 3000\n" in shown
    assert shown.count("waits") == 1, "the same is asked for once"

    be("bob", monkeypatch)
    assert answer(data, "grant", 1) == 0
    assert "granted, and set" in capsys.readouterr().out
    assert configure(data, "--remove") == 0
    be("ann", monkeypatch)
    assert answer(data, "deny", 2) == 0
    assert main(["approve", "list", "--data", str(data.path)]) == 0
    assert capsys.readouterr().out.endswith("nothing waits\n")
    with Ledger(data.ledger) as ledger:
        site = ledger.site("home-01")
        audited = [(e.action, e.actor, e.subject) for e in ledger.audit_entries() if e.action != "site.added"]
    assert site is not None
    assert (site.remote_revision, site.remote_toml) == (1, "[control]\nexport_limit_w = 3000\n")
    assert audited == [
        ("limits.asked", "command:ann", "home-01"),
        ("limits.granted", "command:bob", "home-01"),
        ("site.configured", "command:ann", "home-01"),
        ("limits.asked", "command:bob", "home-01"),
        ("limits.denied", "command:ann", "home-01"),
    ]


def test_an_account_of_the_same_name_in_the_console_is_the_same_person(data: DataFolder) -> None:
    assert configure(data, "--remove") == 0
    with Ledger(data.ledger) as ledger:
        with pytest.raises(LedgerError, match="ask somebody else"):
            ledger.answer_approval(1, grant=True, now_ms=registry.now_ms(), actor="user:ann")
        ledger.answer_approval(1, grant=True, now_ms=registry.now_ms(), actor="user:bob")


def test_a_change_that_nobody_granted_in_a_week_has_to_be_asked_for_anew(data: DataFolder) -> None:
    assert configure(data, "--remove") == 0
    later_ms = registry.now_ms() + CHANGE_MS
    with Ledger(data.ledger) as ledger:
        with pytest.raises(LedgerError, match="ran out"):
            ledger.answer_approval(1, grant=True, now_ms=later_ms, actor="user:bob")
        again = ledger.ask_change(Limits.SITE, "home-01", "", "limits of home-01", later_ms, "command:ann")
    assert again.number == 2


def test_an_installation_of_one_person_says_so_in_the_audit_log(
    data: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger(data.ledger) as ledger:
        ledger.set_fleet_limits('{"single_operator":true}', 1, "command:ann")
    assert configure(data, "--remove") == 0
    assert "you may grant it yourself" in capsys.readouterr().out
    assert answer(data, "grant", 1) == 0
    with Ledger(data.ledger) as ledger:
        (granted,) = (e for e in ledger.audit_entries() if e.action == "limits.granted")
        assert ledger.site("home-01").remote_revision == 1  # type: ignore[union-attr]
    assert '"single_operator":true' in granted.detail


def test_nothing_asked_for_is_said(data: DataFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["approve", "list", "--data", str(data.path)]) == 0
    assert "nothing was ever asked for" in capsys.readouterr().out


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
        assert (ledger.approvals(), ledger.site("home-01").remote_revision) == ([], None)  # type: ignore[union-attr]


def test_a_site_that_is_not_there_is_refused(data: DataFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "configure", "home-09", "--remove", "--data", str(data.path)]) == 2
    assert "'home-09' is unknown" in capsys.readouterr().err
