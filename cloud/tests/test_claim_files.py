"""Claims for one gateway and for a fleet: the file, its QR code, and all that is wrong with a list of sites."""

import stat
import tomllib
from pathlib import Path

import pytest
import segno

from cloud.cli import main
from cloud.store.ledger import Ledger
from cloud.testing import Plant

SITES = "site,groups\n" + "".join(f"home-{number:03},fast zone-{number % 3}\n" for number in range(700))


@pytest.fixture
async def served(plant: Plant) -> Plant:
    """A data folder on which a coordinator has run."""
    async with plant.running():
        pass
    return plant


async def test_claim_and_its_qr_code_hold_the_same_text(
    served: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, suffix in enumerate(("svg", "png")):
        claim, picture = tmp_path / f"{number}.toml", tmp_path / f"{number}.{suffix}"
        assert (
            await served.command("site", "add", f"home-{number}", "--claim-file", str(claim), "--qr", str(picture)) == 0
        )
        assert stat.S_IMODE(picture.stat().st_mode) == 0o600
        expected = tmp_path / f"expected.{suffix}"
        segno.make(claim.read_text(), error="l", micro=False).save(str(expected), scale=4)
        assert picture.read_bytes() == expected.read_bytes()
    capsys.readouterr()
    shown = ("site", "claim", "home-0", "--claim-file", str(tmp_path / "again.toml"), "--qr", "-")
    assert await served.command(*shown) == 0
    assert capsys.readouterr().out.count("█") > 500
    assert (
        await served.command("site", "claim", "home-0", "--claim-file", str(tmp_path / "x.toml"), "--qr", "x.gif") == 2
    )
    assert not (tmp_path / "x.toml").exists()


async def test_a_file_of_sites_is_added_whole_and_each_claim_enrols(plant: Plant, tmp_path: Path) -> None:
    (tmp_path / "sites.csv").write_text(SITES)
    async with plant.running():
        arguments = ("site", "import", str(tmp_path / "sites.csv"), "--claim-folder", str(tmp_path / "claims"))
        assert await plant.command(*arguments) == 0
        claims = sorted((tmp_path / "claims").iterdir())
        assert (len(claims), stat.S_IMODE(claims[0].stat().st_mode)) == (700, 0o600)
        for claim in (claims[0], claims[-1]):
            gateway = await plant.enrol(tomllib.loads(claim.read_text()))
            assert gateway.credentials.site == claim.name.removesuffix(".claim.toml")
    with Ledger(plant.data.ledger) as ledger:
        sites = ledger.sites()
        assert [site.slot for site in sites] == list(range(700))
        assert sites[4].groups == ("fast", "zone-1")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        pytest.param("name\nhome-01\n", "row 1: give the header", id="header"),
        pytest.param("site\nhome-01\nhome.02\n", "row 3: site 'home.02'", id="a name with a dot"),
        pytest.param("site,groups\nhome-01,*\n", "row 2: group '*'", id="a wildcard group"),
        pytest.param("site,groups\nhome-01,a,b\n", "row 2: has 3 columns", id="columns"),
        pytest.param("site\nhome-01\nhome-01\n", "row 3: site 'home-01', or one", id="twice"),
        pytest.param("site\n", "names no site", id="empty"),
        pytest.param("site\nhome-01\nknown\n", "site 'known' exists already: leave it out", id="known"),
    ],
)
async def test_a_wrong_list_adds_nobody_and_names_the_row(
    served: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, finding: str
) -> None:
    assert await served.command("site", "add", "known", "--claim-file", str(tmp_path / "known.toml")) == 0
    (tmp_path / "sites.csv").write_text(text)
    arguments = ("site", "import", str(tmp_path / "sites.csv"), "--claim-folder", str(tmp_path / "claims"))
    assert await served.command(*arguments) == 2
    assert finding in capsys.readouterr().err
    assert not (tmp_path / "claims").exists()
    with Ledger(served.data.ledger) as ledger:
        assert [site.site for site in ledger.sites()] == ["known"]


async def test_a_batch_is_revoked_by_group_or_file(served: Plant, tmp_path: Path) -> None:
    (tmp_path / "sites.csv").write_text("site,groups\na,fast\nb,fast\nc,slow\nd,slow\n")
    arguments = ("site", "import", str(tmp_path / "sites.csv"), "--claim-folder", str(tmp_path / "claims"))
    assert await served.command(*arguments) == 0
    (tmp_path / "stolen.csv").write_text("site\nc\n")
    batch = ("--group", "fast", "--file", str(tmp_path / "stolen.csv"), "--reason", "a van was robbed")
    assert await served.command("site", "revoke", *batch) == 0
    with Ledger(served.data.ledger) as ledger:
        assert [site.site for site in ledger.sites() if site.revoked_ms is not None] == ["a", "b", "c"]
    assert main(["site", "revoke", "--data", str(served.data.path), "--reason", "nobody"]) == 2
