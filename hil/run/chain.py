"""The whole chain as processes: rig, market, coordinator with its broker, and an agent per home.

`Chain` starts them step by step, the way a person would with the product's own commands, and hands out what the
report, the benchmark and the end-to-end tests need: folders, ledger, history and the rig's recording.
"""

import json
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx
import psutil

from cloud.model.records import AwardRecord, AwardState, IntentState
from cloud.store.history import History
from cloud.store.ledger import LEDGER_FILE, Ledger
from edge_agent.model.config import load as load_agent_config
from edge_agent.model.status import STATISTICS
from edge_agent.sync import quarters
from edge_agent.sync.journal import JournalStatus, read_status
from hil.rigs.history import read_quarters, write_history_csv
from hil.run.processes import ChainError, ChainRefused, Processes, command, running, wait_until

HISTORY_DAYS: Final = 14
RECORDING: Final = "recording.npz"  # of the rig, in its folder
RIG_ANSWERS_WITHIN_S: Final = 60.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the coordinator offers of a group of homes."""

    product: str  # the market's
    service: str  # an id of protos/services, or a TOML file
    group: str


OFFERS: Final = (  # homes are dealt to their groups in turn: half and half
    Offer(product="ffr", service="ercot-ffr", group="fast"),
    Offer(product="droop", service="ieee1547-droop", group="droop"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Of the market session and of the event inside its delivery [s]."""

    gate_closes_after_s: float = 8.0
    delivery_starts_after_s: float = 20.0  # both from the session's opening
    quiet_before_s: float = 20.0  # of the delivery, before the recording plays
    quiet_after_s: float = 40.0
    event_s: float | None = None  # None: the scenario's


class Chain:
    """The running chain. Made by `chain()`, which ends every process it started."""

    def __init__(
        self,
        folder: Path,
        processes: Processes,
        homes: int,
        scenario: str,
        say: Say,
        offers: Sequence[Offer],
        rates_hz: Mapping[str, float],
        forecast_every_s: float | None,
    ) -> None:
        self.folder = folder
        self.processes = processes
        self.cloud = folder / "cloud"
        self.sites = [f"home-{i:02d}" for i in range(1, homes + 1)]
        self.rig: dict[str, Any] = {}
        self.recorded_start = datetime.now(UTC)
        self._scenario = scenario
        self._offers = tuple(offers)
        self._rates_hz = dict(rates_hz)
        self._forecast_every_s = forecast_every_s
        self._say = say
        self._ledger: Ledger | None = None

    # ---- starting, in order

    def start_rig(self) -> None:
        """The homes' devices, and the market that buys their reserve."""
        self._say(f"rig: {len(self.sites)} homes as SunSpec devices over Modbus TCP")
        start = self.recorded_start.isoformat()
        folder = self.folder / "rig"
        arguments = ["--homes", str(len(self.sites)), "--data", str(folder), "--recorded-start-utc", start]
        self.processes.start("rig", ["vpp-hil", "rig", "--scenario", self._scenario, *arguments], with_pipes=True)
        market = self.folder / "market"
        self.processes.start(
            "market", ["vpp-hil", "market", "--data", str(market), "--recorded-start-utc", start, "--port", "0"]
        )
        self._wait_for_file(folder / "rig.json", "the rig listens")
        self._wait_for_file(market / "market.json", "the market listens")
        self.rig = json.loads((folder / "rig.json").read_text())

    @property
    def market_url(self) -> str:
        return str(json.loads((self.folder / "market" / "market.json").read_text())["url"])

    def start_coordinator(self) -> None:
        config = self.folder / "coordinator.toml"
        if not config.exists():
            self._say("coordinator: keys, certificates, broker, ledger, console")
            config.write_text(self._coordinator_toml())
        (self.cloud / "run.json").unlink(missing_ok=True)
        arguments = ["--data", str(self.cloud), "--config", str(config)]
        self.processes.start("coordinator", ["vpp-cloud", "run", *arguments])
        self._wait_for_file(self.cloud / "run.json", "the coordinator serves")

    def register_homes(self) -> None:
        """Adds each home with a one-time claim, and its recorded past, with the product's own commands."""
        self._say(f"sites: {len(self.sites)} one-time claims, and {HISTORY_DAYS} recorded days of each home")
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for done, _ in enumerate(pool.map(self._register, range(len(self.sites))), start=1):
                self.processes.check()
                if done % 4 == 0 and done < len(self.sites):
                    self._say(f"sites: {done} of {len(self.sites)}")

    def start_agents(self) -> None:
        self._say(f"agents: {len(self.sites)}, each with its control and its sync process")
        for site in self.sites:
            self.start_agent(site)

    def start_agent(self, site: str) -> None:
        self.processes.start(f"agent-{site}", ["vpp-agent", "run", "--config", str(self.agent_config(site))])

    def wait_online(self, *, within_s: float = 90.0) -> None:
        """Until every agent has enrolled, told what it found, and had telemetry acknowledged."""

        def online() -> bool:
            described = {s.site for s in self.ledger.sites() if s.description is not None}
            return described.issuperset(self.sites) and all(
                self.journal(site).frames_acknowledged > 0 for site in self.sites
            )

        wait_until(online, "every agent reports", within_s=within_s, processes=self.processes)
        self._say("agents: all enrolled and reporting")

    # ---- the market and the event

    def open_session(self, timing: Timing) -> tuple[datetime, datetime]:
        """Has the market open a session; (delivery start, delivery end)."""
        now = datetime.now(UTC)
        start = now + timedelta(seconds=timing.delivery_starts_after_s)
        event_s = float(self.rig["event_duration_s"]) if timing.event_s is None else timing.event_s
        end = start + timedelta(seconds=timing.quiet_before_s + event_s + timing.quiet_after_s)
        session = {
            "gate_closure": (now + timedelta(seconds=timing.gate_closes_after_s)).isoformat(),
            "delivery_start": start.isoformat(),
            "delivery_end": end.isoformat(),
        }
        try:
            httpx.post(f"{self.market_url}/sessions", json=session, timeout=10).raise_for_status()
        except httpx.HTTPError as error:
            raise ChainError(f"the market opens no session: {error} (log: {self.processes.log('market')})") from error
        self._say(f"market: session opened, delivery {start:%H:%M:%S} to {end:%H:%M:%S} UTC")
        return start, end

    def wait_armed(self, *, within_s: float = 60.0) -> list[AwardRecord]:
        """Until every home's agent says that its service is active."""

        def armed() -> bool:
            active = {i.site for i in self.ledger.intents() if i.kind == "service" and i.state is IntentState.ACTIVE}
            return active.issuperset(self.sites)

        wait_until(armed, "every home armed", within_s=within_s, processes=self.processes)
        return self.ledger.awards()

    def play(self, at: datetime) -> None:
        """Has the recording begin at every device at this instant."""
        self.tell_rig({"play_at_utc_ms": round(at.timestamp() * 1000)})

    def wait_settled(self, *, within_s: float) -> None:
        def settled() -> bool:
            awards = self.ledger.awards()
            return bool(awards) and all(a.state is AwardState.SETTLED for a in awards)

        wait_until(settled, "the awards are settled", within_s=within_s, processes=self.processes)

    def tell_rig(self, order: dict[str, Any]) -> None:
        pipe = self.processes.stdin("rig")
        try:
            pipe.write(json.dumps(order).encode() + b"\n")
            pipe.flush()
        except OSError as error:
            raise ChainError(f"the rig takes no orders ({error}; log: {self.processes.log('rig')})") from error

    def save_recording(self) -> Path:
        """The rig's device-side recording so far, as a file."""
        path = self.folder / "rig" / RECORDING
        self.tell_rig({"save": str(path)})
        answers = self.processes.stdout("rig")
        ready, _, _ = select.select([answers], [], [], RIG_ANSWERS_WITHIN_S)
        line = answers.readline() if ready else b""
        if not line:
            self.processes.check()
            raise ChainError(f"the rig does not answer within {RIG_ANSWERS_WITHIN_S:.0f} s")
        answer = json.loads(line)
        if answer.get("saved") != str(path):
            raise ChainError(f"the rig was to save {path} and answered {answer}")
        return path

    # ---- faults

    def kill(self, name: str) -> None:
        """Ends a process as a power cut would."""
        self.processes.signal(name, signal.SIGKILL)
        self.processes.wait(name, within_s=10)

    @contextmanager
    def without_coordinator(self, *, frozen: bool = False, for_good: bool = False) -> Iterator[None]:
        """No coordinator while the block runs; afterwards it is there again, unless it is gone for good.

        frozen: only the broker stands still, as a process that hangs does; else the coordinator is killed, and its
        broker dies with it.
        """
        broker_pid = int(self.served()["broker_pid"])
        if frozen:
            os.kill(broker_pid, signal.SIGSTOP)
        else:
            self.kill("coordinator")
            wait_until(
                lambda: not psutil.pid_exists(broker_pid),
                "the broker dies with its coordinator",
                within_s=10,
                processes=self.processes,
            )
        try:
            yield
        finally:
            if frozen:
                os.kill(broker_pid, signal.SIGCONT)
        if not frozen and not for_good:
            self.start_coordinator()

    # ---- what it knows

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger(self.cloud / LEDGER_FILE)
        return self._ledger

    @property
    def history(self) -> History:
        return History(self.cloud / "history")

    def served(self) -> dict[str, Any]:
        """The coordinator's addresses, as it wrote them."""
        return dict(json.loads((self.cloud / "run.json").read_text()))

    def agent_config(self, site: str) -> Path:
        return self.folder / "agents" / f"{site}.toml"

    def agent_data(self, site: str) -> Path:
        return self.folder / "agents" / site

    def journal(self, site: str) -> JournalStatus:
        return read_status(self.agent_data(site))

    def agent_statistics(self, site: str) -> dict[str, Any]:
        """How the agent's control loop is doing, from its last report."""
        return dict(json.loads((self.agent_data(site) / STATISTICS).read_text()))

    @property
    def agent_rate_hz(self) -> float:
        return load_agent_config(self.agent_config(self.sites[0])).control.rate_hz

    # ---- details

    def _wait_for_file(self, path: Path, what: str) -> None:
        wait_until(path.exists, what, within_s=60, processes=self.processes)

    def _coordinator_toml(self) -> str:
        offers = "".join(
            f'\n[[market.offers]]\nproduct = "{o.product}"\nservice = "{o.service}"\ngroup = "{o.group}"\n'
            for o in self._offers
        )
        return (
            # A stranger's browser opens the link that is printed, and does not know this coordinator's own root.
            '[listen]\nhost = "127.0.0.1"\n\n[console]\ninsecure_loopback_only = true\n\n'
            "[telemetry]\ninterval_ms = 100\n\n"
            f'[market]\nurl = "{self.market_url}"\ncurrency = "USD"\n{offers}'
        )

    def _register(self, index: int) -> None:
        site, home = self.sites[index], self.rig["homes"][index]
        agents = self.folder / "agents"
        agents.mkdir(exist_ok=True)
        claim = agents / f"{site}.claim.toml"
        data = ["--data", str(self.cloud)]
        group = self._offers[index % len(self._offers)].group
        command(["vpp-cloud", "site", "add", site, *data, "--group", group, "--claim-file", str(claim)])
        past = write_history_csv(index, self.folder / "rig", self.recorded_start, days=HISTORY_DAYS)
        command(["vpp-cloud", "history", "import", *data, "--site", site, str(past)])
        quarters.write(self.agent_data(site), read_quarters(past))  # the agent has lived through them, too
        self.agent_config(site).write_text(
            f'site = "{site}"\ndata_dir = "{site}"\n\n[coordinator]\nclaim_file = "{claim.name}"\n\n'
            f'[[devices]]\nname = "hybrid"\ndriver = "sunspec"\nhost = "{home["host"]}"\nport = {home["port"]}\n'
            f"unit_id = {home['unit_id']}\n{home['more_devices']}"
            + (f"\n[control]\nrate_hz = {self._rates_hz[site]}\n" if site in self._rates_hz else "")
            + (f"\n[forecast]\nevery_s = {self._forecast_every_s}\n" if self._forecast_every_s else "")
        )


@contextmanager
def chain(
    folder: Path,
    *,
    homes: int,
    scenario: str,
    say: Say,
    offers: Sequence[Offer] = OFFERS,
    rates_hz: Mapping[str, float] = MappingProxyType({}),
    forecast_every_s: float | None = None,
) -> Iterator[Chain]:
    """A chain whose processes are all ended when the block is left, the agents first.

    rates_hz: of the control loop, by site, where it is not the agent's own. forecast_every_s: likewise, of all sites.
    Raises ChainRefused unless `folder` is new or empty: what an earlier run left there would be taken for this one's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise ChainRefused(f"{folder}: cannot be used ({error.strerror}); give another folder as --data") from error
    if used:
        raise ChainRefused(f"{folder}: is not empty; give a new folder as --data")
    with running(folder / "logs") as processes:
        yield Chain(folder, processes, homes, scenario, say, offers, rates_hz, forecast_every_s)
