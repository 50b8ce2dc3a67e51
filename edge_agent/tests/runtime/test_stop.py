"""Emergency stop: at once, over everything, over restarts, until it is lifted."""

import math
from pathlib import Path

import pytest

from edge_agent.model.intent import StopOrder
from edge_agent.runtime.stop import FILE, LOCAL_FILE, SITE, Stops, order_locally
from edge_agent.runtime.testing import Bench
from protos.vpp.v1 import broadcast_pb2, intent_pb2


def order(stop: bool, issued_ms: int, reason: str = "because") -> StopOrder:
    return StopOrder(stop=stop, issued_ms=issued_ms, reason=reason)


def stop_intent(stop: bool) -> intent_pb2.Intent:
    return intent_pb2.Intent(stop=intent_pb2.StopOrder(stop=stop, reason="smoke in the hall"))


@pytest.mark.parametrize(
    ("orders", "stands"),
    [
        pytest.param([], False, id="nothing was ever said"),
        pytest.param([(SITE, True, 1)], True, id="stopped"),
        pytest.param([(SITE, True, 1), (SITE, False, 2)], False, id="lifted"),
        pytest.param([(SITE, True, 2), (SITE, False, 1)], True, id="an older end ends nothing"),
        pytest.param([(SITE, False, 2), (SITE, True, 1)], False, id="an older stop stops nothing"),
        pytest.param([(SITE, True, 1), (SITE, False, 1)], True, id="what is as old is not newer"),
        pytest.param([("north", True, 1)], True, id="a group is stopped"),
        pytest.param([("north", True, 1), ("north", False, 2)], False, id="a group is let go"),
        pytest.param([("north", True, 1), ("south", False, 2)], True, id="another group's end is not this one's"),
        pytest.param([(SITE, True, 1), ("north", False, 2)], True, id="a group's end does not start a stopped site"),
        pytest.param([("north", True, 1), (SITE, False, 2)], False, id="a site's own end counts against its groups"),
        pytest.param([(SITE, False, 1), ("north", True, 2)], True, id="but not against a newer stop of one"),
    ],
)
def test_which_order_stands_and_stands_after_a_restart(
    tmp_path: Path, orders: list[tuple[str, bool, int]], stands: bool
) -> None:
    stops = Stops(tmp_path)
    for addressee, stop, issued_ms in orders:
        stops.take(addressee, order(stop, issued_ms))
    assert (stops.standing is not None) is stands
    assert (Stops(tmp_path).standing is not None) is stands


@pytest.mark.parametrize("content", [b"", b"{", b'{"": 1}', b'{"": {"stop": true}}', b"\xff" * 100])
def test_a_file_that_cannot_be_read_keeps_the_site_stopped_until_it_is_lifted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    stops = Stops(tmp_path)
    assert stops.standing is not None
    assert stops.take(SITE, order(False, 1))
    assert Stops(tmp_path).standing is None


async def test_a_stop_ends_all_and_releases_the_device_within_two_cycles(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.frequency_hz = lambda now_s: 59.8
    bench.schedule([1000])
    bench.arm("ercot-ffr", 2000)
    await bench.run_for(5.0)
    assert bench.home.power_w == 3000.0
    bench.send(0.0, 3600.0, stop_intent(True))
    await bench.run_for(0.11)
    assert not bench.home.holds_setpoint
    assert bench.acks()[-3:] == [(3, "ACTIVE"), (1, "RELEASED"), (2, "RELEASED")]
    assert bench.agent.summary()["services"] == []
    assert "stop.ordered" in bench.codes()


async def test_what_is_asked_under_a_stop_is_refused_and_the_stop_outlives_its_intent(bench: Bench) -> None:
    await bench.agent.site.open_all()
    first_s = bench.clock.now_s
    bench.send(0.0, 5.0, stop_intent(True))
    await bench.run_for(1.0)
    asked = [bench.schedule([1000]), bench.arm("ercot-ffr", 2000)]
    bench.broadcast(broadcast_pb2.Broadcast(stop=intent_pb2.StopOrder(stop=False)))  # another addressee's end
    await bench.run_for(60.0)
    assert [ack for ack in bench.acks() if ack[0] in asked] == [(sequence, "REFUSED") for sequence in asked]
    assert [written_s for written_s, _ in bench.home.trace if written_s > first_s + 0.1] == []
    bench.send(0.0, 60.0, stop_intent(False))
    bench.schedule([1000])
    await bench.run_for(1.0)
    assert bench.home.power_w == 1000.0
    assert bench.codes().count("stop.lifted") == 1


async def test_a_stop_survives_a_restart(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    await first.agent.site.open_all()
    first.broadcast(broadcast_pb2.Broadcast(stop=intent_pb2.StopOrder(stop=True, reason="fire")), lasts_s=1.0)
    await first.run_for(1.0)
    first.close()
    again = Bench(tmp_path)
    await again.agent.site.open_all()
    again.home.own_default_w = 123.0
    again.schedule([1000])
    await again.run_for(10.0)
    assert again.home.power_w == 123.0
    assert again.agent.summary()["stopped"] == "fire"
    again.close()


async def test_a_device_that_comes_back_under_a_stop_is_released_once_it_answers(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([1000])
    await bench.run_for(1.0)
    bench.home.fails = True
    bench.send(0.0, 3600.0, stop_intent(True))
    await bench.run_for(3.0)
    assert bench.home.releases == 0
    bench.home.fails = False
    await bench.run_for(60.0)
    assert bench.home.releases == 1
    assert math.isclose(bench.home.power_w, bench.home.own_default_w)


async def test_who_stands_at_the_gateway_stops_it_and_nobody_else_lifts_that(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([2000])
    await bench.run_for(1.0)
    assert bench.home.power_w == 2000.0
    folder = bench.config.data_dir
    order_locally(folder, stop=True, reason="smoke", now_ms=bench.clock.utc_ms())
    bench.agent.read_local_stop()
    await bench.run_for(0.2)
    assert not bench.home.holds_setpoint
    bench.send(0.0, 60.0, stop_intent(False))
    await bench.run_for(1.0)
    assert bench.agent.summary()["stopped"] == "at the gateway: smoke"
    standing = Stops(folder).standing
    assert standing is not None, "after a restart, too"
    order_locally(folder, stop=False, reason="no fire", now_ms=bench.clock.utc_ms())
    bench.agent.read_local_stop()
    bench.agent.read_local_stop()
    await bench.run_for(0.1)
    assert bench.agent.summary()["stopped"] is None
    assert bench.codes().count("stop.ordered") == bench.codes().count("stop.lifted") == 1


def test_a_local_stop_does_not_lift_the_coordinators(tmp_path: Path) -> None:
    stops = Stops(tmp_path)
    stops.take(SITE, order(True, 1))
    order_locally(tmp_path, stop=False, reason="", now_ms=2)
    assert stops.read_local() is not None
    assert stops.standing is not None


def test_a_local_order_that_cannot_be_read_stops_the_site(tmp_path: Path) -> None:
    (tmp_path / LOCAL_FILE).write_bytes(b"{")
    assert Stops(tmp_path).standing is not None
