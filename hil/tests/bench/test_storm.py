"""The storm bench, small: everything comes back, and every figure can be true."""

from pathlib import Path

from hil.bench.storm import bench_storm

SITES = 80


def test_everything_comes_back_and_the_figures_can_be_true(tmp_path: Path) -> None:
    said: list[str] = []
    figures = bench_storm(sites=SITES, folder=tmp_path / "storm", say=said.append)
    assert (figures["sites"], figures["frames"]) == (SITES, 2 * SITES)
    assert 0 < figures["connections"] <= SITES
    assert 0 < figures["storm_broker_back_s"] <= figures["storm_all_connected_s"]
    assert figures["storm_all_connected_s"] <= figures["storm_all_acknowledged_s"] <= figures["storm_s"]
    assert figures["storm_product_cpu_s"] > 0
    assert any("other programs" in line for line in said)
