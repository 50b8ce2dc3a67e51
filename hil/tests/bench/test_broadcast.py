"""The broadcast bench, small: each message is timed once at each gateway, after it was sent."""

from hil.bench.broadcast import bench_broadcast


def test_each_broadcast_is_timed_at_each_gateway() -> None:
    figures = bench_broadcast(lambda text: None, gateways=10, cycles=2)
    assert figures["broadcasts_received_share"] == 1.0
    assert 0 < figures["broadcast_to_agent_ms_p50"] <= figures["broadcast_to_agent_ms_p99"]
    assert figures["broadcast_sender_ms_p50"] > 0
    assert figures["broadcast_fan_out_ms_p50"] <= figures["broadcast_to_agent_ms_p99"]
