"""A service for another grid is refused, with both frequencies."""

from edge_agent.runtime.testing import Bench


async def test_a_service_of_another_grid_is_not_armed(bench: Bench) -> None:
    await bench.agent.site.open_all()
    await bench.run_for(1.0)
    bench.arm("gb-dc", 3000)
    await bench.run_for(1.0)
    assert bench.acks() == [(1, "REFUSED")]
    refusal = next(m.acknowledgement for m in bench.received if m.WhichOneof("body") == "acknowledgement")
    assert refusal.reason == "gb-dc is for a grid of 50 Hz, this one has 60.00 Hz"
    assert "service.armed" not in bench.codes()
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(1.0)
    assert bench.acks()[-1] == (2, "ACTIVE")
