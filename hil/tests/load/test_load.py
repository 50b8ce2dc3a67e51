"""The load generator against a real broker and a real ingest worker: what it says arrived has, and it would notice."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from cloud.ingest.decode import decode
from cloud.model.telemetry import POINTS
from cloud.store.history import History
from hil.cli import main
from hil.load.check import compare
from hil.load.driver import Mode, Phase, share_out, site_name
from hil.load.fleet import FRAME_MS, SimulatedFleet, grid_counts
from hil.load.trial import Load, put
from protos import subjects

NOON_MS = 1_790_000_000_000 // FRAME_MS * FRAME_MS


def test_frames_are_canonical_and_physical() -> None:
    fleet = SimulatedFleet(500, noon_ms=NOON_MS)
    site = np.arange(500)
    for seq in (1, 2):
        rows = fleet.records(site, seq, NOON_MS + seq * FRAME_MS)
        frames, bad = decode([rows.tobytes()], NOON_MS + 60_000)
        assert bad == []
        assert frames.slot.tolist() == site.tolist()
        assert set(frames.seq.tolist()) == {seq}
        counts = {point: frames.counts[:, index] for index, point in enumerate(POINTS)}
        assert counts["grid_power_w"].sum(axis=1).tolist() == grid_counts(rows).tolist()
        load_w = counts["inverter_power_w"] - counts["grid_power_w"]
        assert (load_w > -100).all()  # meters' noise around consumption
        assert (counts["soc"] >= 0).all()
        assert (counts["soc"] <= 10_000).all()
        assert ((counts["frequency_hz"] > 49_900) & (counts["frequency_hz"] < 50_100)).all()
        assert counts["pv_power_w"].mean() > 500  # it is noon


def test_clouds_come_over_a_region_and_not_over_each_home_by_itself() -> None:
    fleet = SimulatedFleet(4000, noon_ms=NOON_MS)
    site = np.arange(4000)

    def pv_w(minute: int) -> np.ndarray:
        return fleet.records(site, 1, NOON_MS + minute * 60_000)["block"]["base"][:, 5].astype(float)

    before, after = pv_w(0), pv_w(40)
    with_pv = before > 100
    change = np.log(np.maximum(after[with_pv], 1) / before[with_pv])
    region = fleet._region[with_pv]
    within = np.mean([change[region == one].var() for one in np.unique(region)])
    assert within < 0.2 * change.var()


def test_each_site_is_behind_one_connection_in_its_own_partition() -> None:
    shares = share_out(3000, 128)
    assert sorted(np.concatenate([sites for _, sites in shares]).tolist()) == list(range(3000))
    assert all(subjects.partition(site_name(slot)) == partition for partition, sites in shares for slot in sites[:3])
    assert len(shares) == 128


@pytest.mark.parametrize(
    "mode", [Mode(batch=50), Mode(batch=50, compressed=True), Mode(batch=1)], ids=["batches", "compressed", "single"]
)
async def test_everything_arrives_through_outages(tmp_path: Path, mode: Mode) -> None:
    load = Load(
        sites=300,
        connections=64,
        phases=(Phase("steady", 2.0, 300.0),),
        mode=mode,
        streams=2,
        sync_interval="1s",
        outages_per_s=0.0 if mode.batch == 1 else 10.0,
    )
    outcome = await put(load, tmp_path / "load")
    assert outcome.comparison.holds, outcome.comparison
    assert outcome.comparison.sent >= 300
    assert outcome.refused == 0
    assert mode.batch == 1 or outcome.reconnected > 0


async def test_a_loss_a_double_and_another_value_are_noticed(tmp_path: Path) -> None:
    load = Load(sites=70, connections=64, phases=(Phase("steady", 1.0, 70.0),), sync_interval="1s")
    outcome = await put(load, tmp_path / "load")
    assert outcome.comparison.holds
    history = History(tmp_path / "load" / "history")
    sent = np.array([count.stored for count in history.counts().values()])
    measured = await asyncio.to_thread(compare, history, sent, np.zeros(70, dtype=np.int64))
    assert measured.wrong_sites > 60
    assert compare(history, sent + 1, np.zeros(70, dtype=np.int64)).missing == 70
    assert not compare(history, sent - 1, np.zeros(70, dtype=np.int64)).holds


def test_the_command_prints_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--sites", "200", "--connections", "64", "--ramp", "0", "--seconds", "1", "--rate", "200"]
    bare = [*options, "--insecure-loopback-only", "--unsynced"]
    assert main(["load", *bare, "--data", str(tmp_path / "load"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["comparison"]["sent"] == figures["comparison"]["stored"] >= 200
    assert figures["lag_ms"][0] > 0
    assert main(["load", "--streams", "0"]) == 2
    assert "--streams 0" in capsys.readouterr().err
    assert main(["load", *options, "--unsynced"]) == 2
    assert "--insecure-loopback-only" in capsys.readouterr().err
    assert main(["load", *options, "--batch", "1"]) == 2
    assert "--insecure-loopback-only" in capsys.readouterr().err


def test_an_installation_stores_what_came_with_credentials_and_through_a_storm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--sites", "150", "--connections", "64", "--ramp", "0", "--seconds", "1", "--rate", "150", "--storm"]
    assert main(["load", *options, "--data", str(tmp_path / "load"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["comparison"]["sent"] == figures["comparison"]["stored"] >= 2 * 150
    assert (figures["refused"], figures["reconnected"]) == (0, 64)
    assert figures["storm_s"] > 0
    assert set(figures["cores"]) == {"generator", "broker", "coordinator"}
    log = (tmp_path / "load" / "cloud" / "broker" / "nats-server.log").read_text()
    assert "TLS required for client connections" in log
