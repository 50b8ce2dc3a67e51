"""The driver bench compares like with like: both clients read every point of the map, and the same values."""

import pytest

from hil.bench.driver import bench_driver


@pytest.mark.parametrize(("legacy", "transactions"), [(False, 6), (True, 4)], ids=["ieee1547", "legacy"])
def test_both_clients_read_the_same_map(legacy: bool, transactions: int) -> None:
    figures = bench_driver(seconds=0.1, legacy=legacy)
    assert figures["points"] > 300
    assert figures["points_that_differ"] == 0
    assert figures["transactions_a_read"] == transactions
    assert figures["registers"] <= 125 * transactions
    assert figures["sunspec_reads_per_s"] > 0
    assert figures["pysunspec2_reads_per_s"] > 0
