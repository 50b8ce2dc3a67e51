"""The dispatcher on a real ledger, with sites played: they hear what is said and answer at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from cloud.cli import main
from cloud.data_folder import DataFolder
from cloud.dispatch.dispatcher import Dispatcher
from cloud.dispatch.prices import MILLION, Price, PriceGrid
from cloud.dispatch.rows import powers_at
from cloud.fleet.supply import SupplyColumns
from cloud.gateway.broadcasts import BroadcastBody, BroadcastHeld, BroadcastNotSent
from cloud.gateway.intents import Body, IntentNotSent, body_text
from cloud.ingest.shares import Shares
from cloud.model.dispatch import Activation, ActivationState, GroupLimit, Order
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2
from protos.vpp.v1.steer_pb2 import Share, Steer
from protos.vpp.v1.supply_pb2 import SupplyFunction

START_MS = 1_800_000_000_000
GRID = PriceGrid()
SITES = 6
STREAMS = {subjects.telemetry_stream(part): subjects.stream_partitions(part, 2) for part in range(2)}


@dataclass
class Play:
    """Sites, clock, broker. Each site gives 0 to 1000 W over 0 to 100 currency; the first three are in a feeder."""

    ledger: Ledger
    now_ms: int = START_MS
    columns: SupplyColumns = field(default_factory=lambda: SupplyColumns(GRID))
    follows: dict[str, str] = field(default_factory=dict)
    intents: list[tuple[str, str, Body]] = field(default_factory=list)
    prices: dict[str, Price] = field(default_factory=dict)
    actors: set[str] = field(default_factory=set)
    broken: bool = False
    held: bool = False  # by the fleet guard
    dead: set[str] = field(default_factory=set)
    stuck: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.steered_power_w = np.zeros(SITES)
        self.last_seen_ms = np.full(SITES, self.now_ms)
        for slot in range(SITES):
            name = f"home-{slot}"
            self.ledger.add_site(name, ("all", "feeder") if slot < 3 else ("all",), START_MS)
            self.ledger._execute("UPDATE sites SET enrolled_ms = ? WHERE site = ?", (START_MS, name))
        self.tell()

        self.shares = Shares(
            columns=self.columns,
            fleet=self,
            ledger=self.ledger,
            utc_ms=lambda: self.now_ms,
            streams=lambda: STREAMS,
        )

    def reserve(self, slots: int) -> None:
        assert slots <= SITES

    @property
    def names(self) -> Sequence[str]:
        return tuple(STREAMS)

    async def ask(self, steer: Steer, within_s: float) -> list[list[Share]]:
        """Two workers, each with the sites of its own partitions."""
        return [
            [Share.FromString(part.SerializeToString()) for part in await self.shares.answer(stream, steer)]
            for stream in STREAMS
            if stream not in self.dead
        ]

    @property
    def grid_power_w(self) -> np.ndarray:
        return self.steered_power_w - 100.0  # every home uses 100 W

    def tell(self) -> None:
        functions = [
            SupplyFunction(
                site=slot,
                seq=self.now_ms // 1000,
                at_ms=self.now_ms,
                valid_s=300,
                upper_w=1000,
                ticks=[0, 10_000],
                power_w=[0, 1000],
            ).SerializeToString()
            for slot in range(SITES)
        ]
        assert self.columns.update(np.arange(SITES), functions, self.now_ms) == SITES

    async def send(self, body: Body | BroadcastBody, whom: str, *rest: object, actor: str = "") -> int:
        """An intent or a broadcast."""
        self.actors.add(actor)
        if self.broken:
            raise IntentNotSent("away") if len(rest) == 3 else BroadcastNotSent("away")
        assert not isinstance(body, broadcast_pb2.Regulation)
        if isinstance(body, broadcast_pb2.Price):
            if self.held:
                raise BroadcastHeld("area elsewhere: waits for a second person")
            self.prices[whom] = Price(body.ticks, body.step_share_e6 / MILLION, body.tick_fraction_e6 / MILLION)
            return 1
        kind, begin_ms, end_ms = rest
        record = self.ledger.record_intent(
            whom, str(kind), valid_from_ms=int(str(begin_ms)), expires_ms=int(str(end_ms)),
            body=body_text(body), now_ms=self.now_ms,
        )  # fmt: skip
        self.intents.append((whom, str(kind), body))
        if isinstance(body, intent_pb2.FollowPrice):
            self.follows[whom] = body.group
        return record.sequence

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(
            ledger=self.ledger,
            workers=self,
            grid=GRID,
            intents=self,
            broadcasts=self,
            utc_ms=lambda: self.now_ms,
        )

    async def run(self, dispatcher: Dispatcher, cycles: int) -> None:
        for _ in range(cycles):
            await dispatcher.cycle()
            for slot in range(SITES):
                price = self.prices.get(self.follows.get(f"home-{slot}", ""))
                if price is not None and slot not in self.stuck:
                    row = self.columns.rows.take(np.array([slot]))
                    self.steered_power_w[slot] = powers_at(row, GRID.position(price))[0]
            self.now_ms += 2_000
            self.last_seen_ms[:] = self.now_ms

    def activate(self, target_w: int, seconds: int = 120, activation_id: str = "a1", group: str = "all") -> None:
        self.ledger.add_activation(
            Activation(
                activation_id=activation_id, group=group, target_w=target_w, start_ms=self.now_ms,
                end_ms=self.now_ms + 1000 * seconds, source="own", reason="test", actor="me", created_ms=self.now_ms,
            )
        )  # fmt: skip


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield Play(ledger)


async def test_an_activation_brings_its_group_to_the_target_and_is_accounted_for(play: Play) -> None:
    play.stuck = {5}
    play.activate(3_000)
    dispatcher = play.dispatcher()
    await play.run(dispatcher, 60)
    assert play.steered_power_w.sum() == pytest.approx(3_000, abs=2)
    assert sorted(site for site, _, _ in play.intents) == [f"home-{slot}" for slot in range(SITES)]
    assert play.actors == {"me"}, "sent in the name of who wants it, or he could grant it himself"
    await play.run(dispatcher, 1)
    done = play.ledger.activation("a1")
    assert done is not None
    assert (done.state, done.target_wh, done.cycles) == (ActivationState.VERIFIED, 100, 60)
    assert done.measured_wh == pytest.approx(100, abs=6)
    assert done.error_p95_w is not None
    assert done.error_p95_w < 30
    parts = play.ledger.activation_sites("a1")
    assert [part.deviated for part in parts] == [False] * 5 + [True]
    assert parts[5].measured_wh == 0 < parts[5].expected_wh
    codes = [event.code for event in play.ledger.events()]
    assert codes == ["activation.began", "activation.over"]


async def test_who_takes_over_goes_on_and_tells_nobody_twice(play: Play) -> None:
    play.activate(3_000)
    await play.run(play.dispatcher(), 10)
    told = len(play.intents)
    await play.run(play.dispatcher(), 40)
    assert len(play.intents) == told
    assert play.steered_power_w.sum() == pytest.approx(3_000, abs=2)


async def test_who_takes_over_counts_silent_sites_at_the_price_that_they_were_told(play: Play) -> None:
    play.activate(3_000)
    await play.run(play.dispatcher(), 3)
    told = {body.fallback_ticks for _, _, body in play.intents if isinstance(body, intent_pb2.FollowPrice)}
    play.columns.rows.power_w[:] //= 2  # another opening would now come to another price
    next_one = play.dispatcher()
    await play.run(next_one, 1)
    assert {running.fallback.ticks for running in next_one.running.values()} == told


async def test_a_worker_that_does_not_answer_is_named_and_counted_as_it_told_last(play: Play) -> None:
    play.activate(3_000, seconds=1200)
    dispatcher = play.dispatcher()
    await play.run(dispatcher, 20)
    play.dead = {"TEL_1"}
    await play.run(dispatcher, 20)
    running = dispatcher.running["a1"]
    assert "TEL_1 did not answer" in running.problem
    assert play.steered_power_w.sum() == pytest.approx(3_000, abs=5), "its sites go on hearing the price"
    for _ in range(3):
        await play.run(dispatcher, 50)
        play.tell()
    assert "nothing was heard of TEL_1 for 300 s" in running.problem
    play.dead = set()
    await play.run(dispatcher, 2)
    assert running.problem == ""
    play.ledger.end_activation("a1", play.now_ms, "me")
    await play.run(dispatcher, 1)
    parts = {part.site: part.measured_wh for part in play.ledger.activation_sites("a1")}
    seen_more, seen_less = parts["home-0"], parts["home-1"]  # of partitions 11 and 56
    assert seen_more > 5 * seen_less > 0


async def test_the_limit_of_a_feeder_is_kept_at_its_meters_by_a_price_of_its_own(play: Play) -> None:
    play.ledger.add_group_limit(
        GroupLimit(
            limit_id="l", group="feeder", start_ms=START_MS, end_ms=START_MS + 10**7, import_limit_w=5000,
            export_limit_w=600, actor="me", created_ms=START_MS,
        )
    )  # fmt: skip
    play.activate(3_000)
    await play.run(play.dispatcher(), 50)
    assert play.grid_power_w[:3].sum() == pytest.approx(600, abs=2)
    assert play.steered_power_w.sum() == pytest.approx(3_000, abs=2)
    assert set(play.follows.items()) == {(f"home-{s}", "feeder" if s < 3 else "all") for s in range(SITES)}
    assert play.prices["feeder"].ticks < play.prices["all"].ticks


async def test_no_site_is_told_to_follow_before_the_price_was_let_through(play: Play) -> None:
    """For it would go to the fallback price by itself."""
    play.held = True
    play.activate(3000)
    dispatcher = play.dispatcher()
    await play.run(dispatcher, 5)
    assert play.intents == []
    assert [each.state for each in play.ledger.activations()] == [ActivationState.ASKED]
    play.held = False
    await play.run(dispatcher, 20)
    assert len(play.follows) == SITES
    assert play.steered_power_w.sum() == pytest.approx(3000, abs=1)
    assert [each.state for each in play.ledger.activations()] == [ActivationState.ACTIVE]


async def test_what_nobody_let_through_fails(play: Play) -> None:
    play.held = True
    play.activate(3000, seconds=10)
    await play.run(play.dispatcher(), 8)
    (failed,) = play.ledger.activations()
    assert (failed.state, failed.note) == (ActivationState.FAILED, "no second person granted it while it was to run")
    assert play.intents == []


async def test_beyond_reach_it_gives_all_there_is_and_says_so(play: Play) -> None:
    play.activate(9_000)
    await play.run(play.dispatcher(), 62)
    done = play.ledger.activation("a1")
    assert done is not None
    assert "sites offer 6000 W of the" in done.note
    assert play.steered_power_w.sum() == 6_000


async def test_an_end_before_its_time_lets_the_sites_go(play: Play) -> None:
    play.activate(3_000, seconds=600)
    dispatcher = play.dispatcher()
    await play.run(dispatcher, 5)
    play.ledger.end_activation("a1", play.now_ms, "me")
    await play.run(dispatcher, 1)
    latest = play.ledger.latest_intent("home-0", "price")
    assert latest is not None
    assert latest.expires_ms <= play.now_ms
    done = play.ledger.activation("a1")
    assert done is not None
    assert (done.state, done.cycles) == (ActivationState.VERIFIED, 5)


async def test_one_site_is_in_one_activation_at_a_time(play: Play) -> None:
    play.activate(3_000)
    play.activate(100, activation_id="a2", group="feeder")
    await play.run(play.dispatcher(), 2)
    failed = play.ledger.activation("a2")
    assert failed is not None
    assert (failed.state, failed.note) == (ActivationState.FAILED, "3 of its sites are in activation a1")


async def test_orders_are_sent_once_and_wait_while_the_broker_is_away(play: Play) -> None:
    order = Order(
        order_id="o1", site="home-1", kind="setpoint", valid_from_ms=START_MS, expires_ms=START_MS + 60_000,
        body=body_text(intent_pb2.PowerSetpoint(inverter_power_w=-400, reason="test")), actor="me", created_ms=START_MS,
    )  # fmt: skip
    play.ledger.add_order(order)
    dispatcher = play.dispatcher()
    play.broken = True
    await play.run(dispatcher, 2)
    assert play.ledger.orders(waiting=True) == [order]
    play.broken = False
    await play.run(dispatcher, 2)
    assert [(site, kind) for site, kind, _ in play.intents] == [("home-1", "setpoint")]
    assert play.ledger.orders()[0].sequence == 1


def test_commands_write_what_the_dispatcher_carries_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataFolder(tmp_path / "cloud")
    with data.owned(), Ledger(data.ledger) as ledger:
        Play(ledger)
    limits = tmp_path / "limits.csv"
    limits.write_text(
        "for,utc_start,minutes,import_limit_w,export_limit_w\n"
        "each-of:feeder,2030-01-01T00:00Z,15,4000,1000\neach-of:feeder,2030-01-01T00:15Z,15,4000,500\n"
        "group:feeder,2030-01-01T00:00Z,30,9000,2000\n"
    )

    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--data", str(data.path)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    assert run("setpoint", "home-1", "home-2", "--power-w", "-500", "--minutes", "5", "--reason", "test")[0] == 0
    assert run("envelope", "set", "--file", str(limits)) == (0, "limits of 3 sites and 1 groups were given\n")
    assert run("activate", "--group", "all", "--power-w", "100", "--minutes", "9", "--reason", "test")[0] == 0
    code, shown = run("dispatch", "status")
    assert code == 0
    assert shown.count("envelope  home-") == 3
    assert shown.count("setpoint  home-") == 2
    assert "asked     100 W of all" in shown
    with Ledger(data.ledger) as ledger:
        envelope = next(order for order in ledger.orders() if order.kind == "envelope")
        assert '"export_limit_w":[1000,500]' in envelope.body.replace(" ", "")
    for wrong, why in (
        (("setpoint", "home-9", "--power-w", "1", "--minutes", "5", "--reason", "x"), "home-9' is unknown"),
        (("activate", "--group", "no", "--power-w", "1", "--minutes", "5", "--reason", "x"), "'no' has no site"),
        (("activate", "--group", "all", "--power-w", "1", "--minutes", "5", "--reason", "x"), "is in its way"),
        (("envelope", "set", "--site", "home-1"), "envelope set: whom"),
        (("dispatch", "end", "nothing"), "'nothing' is unknown"),
    ):
        code, shown = run(*wrong)
        assert (code, shown.count("\n")) == (2, 1)
        assert why in shown
    limits.write_text("for,utc_start,minutes,import_limit_w,export_limit_w\nsite:home-1,soon,15,1,1\n")
    code, shown = run("envelope", "set", "--file", str(limits))
    assert (code, "line 2" in shown) == (2, True)
