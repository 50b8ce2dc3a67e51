"""An hour without the cloud, in virtual time: every service call is delivered, and every sample is in the journal."""

from pathlib import Path

from hil.bench.outage import bench_outage


def test_an_armed_site_on_its_own_delivers_and_loses_no_frame(tmp_path: Path) -> None:
    figures = bench_outage(tmp_path, hours=1.0)
    assert (figures["outage_hours"], figures["outage_events"]) == (1.0, 1)
    assert figures["outage_events_delivered"] == 1
    assert figures["outage_frames_lost"] == 0
    assert figures["outage_samples_missing_pct"] < 0.1
