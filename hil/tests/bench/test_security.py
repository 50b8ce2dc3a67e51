"""The security bench, small: every figure is there and can be true."""

import os

from hil.bench.security import bench_security
from hil.fuzz.targets import TARGETS

AGENTS = 12


def test_every_figure_is_there_and_can_be_true() -> None:
    said: list[str] = []
    some = list(TARGETS.values())[:1]
    figures = bench_security(agents=AGENTS, enrolments=10, targets=some, say=said.append)
    rates = ("enrolments_per_s", "enrolments_wall_per_s", "credentials_per_s", "fuzz_executions_now")
    times = ("storm_s", "storm_leaked_key_s", "revoke_to_disconnect_s", "intent_verify_us", "broadcast_verify_us")
    memory = ("gateway_peak_rss_mb", "broker_peak_rss_mb")
    latencies = ("storm_survivor_ms_p99", "quiet_ms_p99", "storm_leaked_key_survivor_ms_p99")
    for name in (*rates, *times, *memory, *latencies):
        assert figures[name] > 0, name
    assert (figures["agents"], figures["survivors_lost"], figures["fuzz_crashes"]) == (AGENTS, 0, 0)
    assert figures["fuzz_executions"] >= 10_000_000  # recorded over the work
    for storm in ("storm", "storm_leaked_key"):
        shares = figures[f"{storm}_cpu_s"]
        assert 0 < figures[f"{storm}_product_cpu_s"] <= (os.cpu_count() or 1) * shares["wall"]
        assert figures[f"{storm}_s"] <= shares["wall"]
    assert any("nats-server" in line for line in said)
