"""Helpers of the console's tests: a fleet that is fed by hand, and the application served for real."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import argon2
import httpx
import numpy as np
from google.protobuf.json_format import MessageToJson

from cloud.api.app import create_app
from cloud.api.emergency import SendStop
from cloud.api.live import Live
from cloud.api.serve import serve
from cloud.api.target import FleetTarget
from cloud.fleet.state import FleetState
from cloud.gateway.stopping import Told
from cloud.identity.sealing import KEY_BYTES, Sealer
from cloud.model.records import Description, IntentState
from cloud.model.telemetry import FLEXIBLE_POINTS, FLEXIBLE_SCALES, HOLE, POINTS, SAMPLES, SCALES, Frames
from cloud.store.ledger import Ledger
from protos import services
from protos.vpp.v1 import intent_pb2

DEADLINE_S = 10.0
QUICK_HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery staple"


class World:
    """A ledger and a fleet, and the console on top of them. The clocks are the test's."""

    def __init__(self, folder: Path, *, session_check_s: float = 30.0, allow_password_only: bool = False) -> None:
        self.ledger = Ledger(folder / "ledger.db")
        self.fleet = FleetState()
        self.broker = True
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        self.monotonic_s = 0.0
        self.send_stop: SendStop | None = None  # None: there is no broker
        self._sequences: dict[int, int] = {}
        self.live = Live(
            self.fleet,
            self.ledger,
            FleetTarget(),
            broker_connected=lambda: self.broker,
            utc_ms=lambda: self.now_ms,
            session_check_s=session_check_s,
        )
        self.app = create_app(
            self.ledger,
            self.live,
            Sealer(bytes(KEY_BYTES)),
            self._send_stop,
            allow_password_only=allow_password_only,
            now=lambda: self.now,
            monotonic_s=lambda: self.monotonic_s,
            hasher=QUICK_HASHER,
        )

    async def _send_stop(
        self, *, stop: bool, reason: str, sites: Sequence[str], groups: Sequence[str], actor: str
    ) -> Told:
        if self.send_stop is None:
            return Told(failures=[f"site {site}: the broker does not answer" for site in sites])
        return await self.send_stop(stop=stop, reason=reason, sites=sites, groups=groups, actor=actor)

    @property
    def now_ms(self) -> int:
        return round(self.now.timestamp() * 1000)

    def add_site(self, site: str, *groups: str, rated_power_w: float = 5_000.0) -> None:
        self.ledger.add_site(site, groups, self.now_ms)
        self.ledger.set_description(
            site,
            Description(
                agent_version="test",
                rated_power_w=rated_power_w,
                max_charge_w=rated_power_w,
                max_discharge_w=rated_power_w,
                storage_capacity_wh=10_000.0,
                soc_min=0.1,
                soc_max=0.95,
            ),
            self.now_ms,
        )

    def schedule(self, site: str, *power_w: int, mtu_s: int = 3_600) -> None:
        """Asks a site to follow hourly powers from now on."""
        start_ms = self.now_ms
        schedule = intent_pb2.Schedule(start_ms=start_ms, mtu_s=mtu_s, inverter_power_w=power_w, plan_id="plan-1")
        intent = intent_pb2.Intent(schedule=schedule)
        self._ask(site, "schedule", intent, start_ms + len(power_w) * mtu_s * 1000)

    def arm(self, site: str, service_id: str, contracted_w: int, state: IntentState = IntentState.ACTIVE) -> None:
        """Asks a site to hold a service ready for an hour from now on."""
        arm = intent_pb2.ArmService(
            award_id="award-1",
            service_id=service_id,
            service_version=1,
            contracted_w=contracted_w,
            service_toml=services.text(service_id),
        )
        sequence = self._ask(site, "service", intent_pb2.Intent(arm=arm), self.now_ms + 3_600_000)
        if state is not IntentState.ISSUED:
            self.ledger.update_intent_state(site, "service", sequence, state, "", self.now_ms)

    def _ask(self, site: str, kind: str, intent: intent_pb2.Intent, expires_ms: int) -> int:
        return self.ledger.record_intent(
            site,
            kind,
            valid_from_ms=self.now_ms,
            expires_ms=expires_ms,
            body=MessageToJson(intent, indent=None, preserving_proto_field_name=True),  # as the intent sender keeps it
            now_ms=self.now_ms,
        ).sequence

    def measure(self, slot: int, t0_ms: int, **points: float | Sequence[float | None]) -> None:
        """One frame of a site: ten samples from t0_ms on; points that are not given are holes."""
        self.fleet.update(frame(slot, self._sequences.setdefault(slot, 0), t0_ms, points), self.now_ms)
        self._sequences[slot] += 1


def frame(slot: int, seq: int, t0_ms: int, points: Mapping[str, float | Sequence[float | None]]) -> Frames:
    """One frame of 100 ms samples as ingest hands it to the fleet."""
    counts = np.full((1, len(POINTS), SAMPLES), HOLE, dtype=np.int32)
    flexible = np.full((1, len(FLEXIBLE_POINTS), SAMPLES), HOLE, dtype=np.int32)
    for name, given in points.items():
        into, scales, names = (
            (counts, SCALES, POINTS) if name in POINTS else (flexible, FLEXIBLE_SCALES, FLEXIBLE_POINTS)
        )
        row = names.index(name)
        samples = given if isinstance(given, Sequence) else [given] * SAMPLES
        for column, sample in enumerate(samples):
            if sample is not None:
                into[0, row, column] = round(sample / scales[row])
    whole = {"message": 0, "slot": slot, "seq": seq, "t0_ms": t0_ms, "interval_ms": 100}
    return Frames(
        **{name: np.array([value], dtype=np.int64) for name, value in whole.items()},
        blocks=counts,
        flexible=flexible if (flexible != HOLE).any() else None,
    )


@asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    """The console's address while it is served on a free port of the loopback interface."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(DEADLINE_S):
        serving = asyncio.create_task(serve(world.app, "127.0.0.1", 0, listening=port.set_result))
        serving.add_done_callback(lambda _: port.cancel())  # it ended before it listened
        await asyncio.wait({port})
    try:
        if serving.done():
            serving.result()
        yield f"http://127.0.0.1:{port.result()}"
    finally:
        serving.cancel()
        await asyncio.wait({serving}, timeout=DEADLINE_S)
        world.ledger.close()


OPEN = {"/log-in", "/welcome/{token}", "/static/vendor/{name}", "/static"}  # without a session


def routes(world: World) -> list[tuple[str, str]]:
    """Every method and path of the application, also those of included routers."""
    found: list[tuple[str, str]] = []

    def collect(items: list[Any], prefix: str) -> None:
        for route in items:
            included = getattr(route, "original_router", None)
            if included is not None:
                collect(included.routes, prefix + route.include_context.prefix)
            else:
                found.extend((method, prefix + route.path) for method in getattr(route, "methods", None) or {"GET"})

    collect(world.app.routes, "")
    return found


async def person(world: World, username: str, *roles: str) -> httpx.AsyncClient:
    """A browser that is logged in as a new user of these roles."""
    token = world.app.state.accounts.invite(username, roles, "test")
    transport = httpx.ASGITransport(app=world.app, client=("192.0.2.9", 40_000))
    client = httpx.AsyncClient(transport=transport, base_url="http://console.test")
    answer = await client.post(f"/welcome/{token}", data={"password": PASSWORD, "repeat": PASSWORD})
    if answer.status_code != 303:
        raise AssertionError(answer.text)
    return client
