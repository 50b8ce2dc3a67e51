"""`vpp-cloud history` as a person meets it: tables, files, what was refused, and one line for what cannot be."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cloud.cli import main
from cloud.data_folder import DataFolder
from cloud.model.telemetry import POINTS, SAMPLES, Frames
from cloud.store.history import History
from cloud.store.ledger import Ledger
from cloud.store.rejected import Rejected, RejectedBook
from cloud.store.segments import Position

T0_MS = 1_790_000_100_000  # 2026-09-21 14:15 UTC


def refused(sequence: int, times: int) -> Rejected:
    return Rejected(
        at_ms=T0_MS,
        epoch=0,
        sequence=sequence,
        subject="vpp.tel.1.x",
        cause="not a batch",
        times=times,
        size=3,
        data=b"abc",
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = DataFolder(tmp_path)
    with folder.owned():  # as a coordinator makes it
        pass
    with Ledger(folder.ledger) as ledger:
        for site, groups in (("home-1", ("north",)), ("home-2", ("north", "fast")), ("home-3", ())):
            ledger.add_site(site, groups, now_ms=1)
    counts = np.zeros((30, len(POINTS), SAMPLES), dtype=np.int32)
    counts[:, 0] = (1000 * (1 + np.arange(30) % 3))[:, None]
    frames = Frames(
        *(np.zeros(30, dtype=np.int64), np.arange(30) % 3, 1 + np.arange(30) // 3),
        *(T0_MS + np.arange(30) // 3 * 10_000, np.full(30, 1000), counts),
    )
    history = History(folder.history)
    history.append(0, Position(0, 1, 1), 1, frames)
    book = RejectedBook(history.place, 0)
    book.add([refused(7, 1), refused(9, 2)])
    book.add([refused(9, 2)])  # read a second time
    book.save()
    return tmp_path


def asked(data: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--from", "2026-09-21T14:00", "--to", "2026-09-21T15:00", *more]


def test_show_prints_a_table_of_a_group(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "show", *asked(data, "--group", "north", "--point", "grid_power_w")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["site", "start_utc", "grid_power_w"]
    assert [(row.split()[0], row.split()[3]) for row in rows] == [("home-1", "1000"), ("home-2", "2000")]
    assert main(["history", "show", *asked(data, "--sum", "--resolution", "1m", "--point", "grid_power_w")]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[2] for row in rows] == ["6000", "4000"]  # 40 of the second minute's 60 seconds were measured


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_export_writes_samples_and_sums(data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = data / name
    assert main(["history", "export", *asked(data, "--site", "home-3", "--resolution", "raw"), str(file)]) == 0
    assert capsys.readouterr().out == f"100 rows in {file}\n"
    if name.endswith("csv"):
        assert len(file.read_text().splitlines()) == 101
    else:
        assert set(pq.read_table(file).column("grid_power_w").to_pylist()) == {3000.0}


def test_rejected_tells_counts_and_what_is_kept(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "rejected", "--data", str(data)]) == 0
    counts, *kept = capsys.readouterr().out.splitlines()
    assert counts == '{"part":0,"counts":{"not a batch":3}}'
    assert len(kept) == 2
    assert '"sequence":9' in kept[1]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--site", "nobody"), "site 'nobody' is unknown"),
        (("--group", "south"), "no site is in south"),
        (("--point", "power"), "one of grid_power_w"),
        (("--resolution", "15s"), "give raw, or e.g. 1m"),
        (("--resolution", "raw", "--sum"), "--sum with --resolution raw"),
        (("--to", "2026-09-01"), "--from is not before --to"),
        (("--to", "tomorrow"), "no time"),
        (("--resolution", "raw"), "more than 1000 rows"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    data: Path, more: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if told.startswith("more"):
        frames = np.arange(400)
        counts = np.zeros((400, len(POINTS), SAMPLES), dtype=np.int32)
        many = Frames(frames * 0, frames * 0, 100 + frames, T0_MS + frames * 1000, frames * 0 + 100, counts)
        History(DataFolder(data).history).append(0, Position(0, 1, 2), 2, many)
    assert main(["history", "show", *asked(data, *more)]) == 2
    assert told in capsys.readouterr().err


def test_a_concentrator_is_set_and_taken_back(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "concentrator", "--data", str(data), "--by", "home-3", "home-1", "home-2"]) == 0
    assert "home-3 may send for home-1, home-2" in capsys.readouterr().out
    with Ledger(DataFolder(data).ledger) as ledger:
        assert ledger.behind("home-3") == ["home-1", "home-2"]
    assert main(["site", "concentrator", "--data", str(data), "home-1"]) == 0
    with Ledger(DataFolder(data).ledger) as ledger:
        assert ledger.behind("home-3") == ["home-2"]
