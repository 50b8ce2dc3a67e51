"""What is set from afar: in force at once, on trial, and taken back by the site itself where it costs a device."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from edge_agent.model.clock import VirtualClock
from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig
from edge_agent.model.devices import DeviceTimeout
from edge_agent.runtime.messages import Reporter
from edge_agent.runtime.remote import FILE, TRIAL_S, RemoteConfiguration
from edge_agent.runtime.testing import Bench
from protos.vpp.v1 import local_pb2

LIMIT = "[control]\nexport_limit_w = 3000\n"
NEW_HOST = '[[devices]]\nname = "hybrid"\nhost = "192.0.2.2"\n'


class Trial:
    """An agent as far as a trial sees it, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock()
        self.owners = AgentConfig(
            site="home-01",
            data_dir=folder,
            coordinator=CoordinatorConfig(claim_file=folder / "claim.toml", remote_addresses=True),
            devices=(DeviceConfig(name="hybrid", driver="sunspec", host="192.0.2.1"),),
        )
        self.config = self.owners
        self.silent: list[str] = []
        self.cycles = 0
        self.stalls = False
        self.used: list[AgentConfig] = []
        self.searches = 0
        self.unreachable: set[str] = set()  # hosts
        self.goes_silent_on: str | None = None  # a host
        self.told: list[tuple[str, str]] = []
        self.news, self.in_use = asyncio.Event(), asyncio.Event()

    def start(self) -> RemoteConfiguration:
        reporter = Reporter(site="home-01", boot_id="b", clock=self.clock, send=self._send)
        remote = RemoteConfiguration(self.owners, reporter=reporter, clock=self.clock, sleep=self._sleep)
        self.config = remote.at_start()
        return remote

    async def use(self, config: AgentConfig) -> None:
        self.config = config
        self.used.append(config)
        self.in_use.set()
        host = config.devices[0].host
        if host in self.unreachable:
            raise DeviceTimeout(f"hybrid at {host}:502: nobody answers")
        self.silent = ["hybrid"] if host == self.goes_silent_on else []

    async def find_missing(self) -> None:
        self.searches += 1

    async def _sleep(self, seconds: float) -> None:
        self.cycles += 0 if self.stalls else round(seconds * self.owners.control.rate_hz)
        await self.clock.sleep(seconds)

    def _send(self, message: bytes) -> None:
        event = local_pb2.ToSync.FromString(message).event
        self.told.append((event.code, event.text))
        self.news.set()

    async def try_(self, remote: RemoteConfiguration, revision: int, toml: str) -> None:
        """Until the revision has been looked at."""
        self.news.clear()
        task = asyncio.create_task(remote.run(self))
        remote.take(revision, toml)
        await self.news.wait()
        await asyncio.sleep(0)  # what comes after it was told
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


async def test_a_revision_that_passes_its_trial_stays_and_is_there_at_the_next_start(trial: Trial) -> None:
    begin_s = trial.clock.now_s
    await trial.try_(trial.start(), 1, LIMIT)
    assert trial.told == [("configuration.applied", "revision 1: export_limit_w none -> 3000")]
    assert trial.clock.now_s - begin_s == pytest.approx(TRIAL_S)
    again = trial.start()
    assert trial.config.control.export_limit_w == 3000
    again.take(1, LIMIT)  # said again at every connection
    assert again.outcome == "applied"
    await trial.try_(again, 2, "")
    assert trial.config == trial.owners


async def test_a_lost_device_takes_the_site_back(trial: Trial) -> None:
    await trial.try_(trial.start(), 1, LIMIT)
    trial.goes_silent_on = "192.0.2.2"
    remote = trial.start()
    await trial.try_(remote, 2, LIMIT + NEW_HOST)
    assert trial.told[-1] == ("configuration.rolled_back", "revision 2: hybrid did not answer any more")
    assert trial.config.devices[0].host == "192.0.2.1"
    assert trial.config.control.export_limit_w == 3000  # of the revision before, which stays in force
    remote.take(2, LIMIT + NEW_HOST)
    assert trial.start().outcome == "rolled_back"
    assert trial.config.control.export_limit_w == 3000


async def test_an_address_where_nobody_answers_is_not_waited_for(trial: Trial) -> None:
    trial.unreachable = {"192.0.2.2"}
    begin_s = trial.clock.now_s
    await trial.try_(trial.start(), 1, NEW_HOST)
    assert trial.told == [("configuration.rolled_back", "revision 1: hybrid at 192.0.2.2:502: nobody answers")]
    assert trial.clock.now_s == begin_s
    assert trial.config == trial.owners
    assert trial.searches == 0


async def test_a_device_that_does_not_come_back_is_looked_for(trial: Trial) -> None:
    trial.unreachable = {"192.0.2.2", "192.0.2.1"}
    await trial.try_(trial.start(), 1, NEW_HOST)
    assert "on the way back: hybrid at 192.0.2.1:502" in trial.told[0][1]
    assert trial.searches == 1


async def test_a_device_that_was_silent_before_is_no_reason(trial: Trial) -> None:
    trial.silent = ["hybrid"]
    trial.goes_silent_on = "192.0.2.1"
    await trial.try_(trial.start(), 1, LIMIT)
    assert trial.told[0][0] == "configuration.applied"


async def test_a_loop_that_completes_no_cycles_takes_the_site_back(trial: Trial) -> None:
    trial.stalls = True
    await trial.try_(trial.start(), 1, LIMIT)
    assert trial.told == [("configuration.rolled_back", "revision 1: only 0 of 400 cycles were completed in 20 s")]
    assert trial.config == trial.owners


async def test_what_is_refused_touches_nothing(trial: Trial) -> None:
    await trial.try_(trial.start(), 1, 'site = "home-02"')
    assert trial.told[0][0] == "configuration.refused"
    assert "revision 1: remote configuration 1: $.site: unknown key" in trial.told[0][1]
    assert trial.used == []


async def test_a_trial_that_ended_the_agent_is_not_tried_again(trial: Trial) -> None:
    remote = trial.start()
    task = asyncio.create_task(remote.run(trial))
    remote.take(1, LIMIT)
    await trial.in_use.wait()
    task.cancel()  # as a power cut would
    await asyncio.gather(task, return_exceptions=True)
    again = trial.start()
    assert trial.config == trial.owners
    assert trial.told == [("configuration.rolled_back", "revision 1: the agent ended while it was on trial")]
    assert (again.revision, again.outcome) == (1, "rolled_back")


def test_an_owner_who_tightens_his_own_limit_ends_what_is_looser(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"revision":4,"outcome":"applied","toml":"[control]\\nexport_limit_w = 3000\\n"}')
    trial.owners = structs.replace(trial.owners, control=ControlConfig(export_limit_w=1000.0))
    assert trial.start().outcome == "refused"
    assert trial.config.control.export_limit_w == 1000


def test_a_damaged_file_leaves_the_owners(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    trial.start()
    assert trial.config == trial.owners


async def test_a_limit_holds_from_the_next_cycle_on_and_what_was_asked_stays_in_force(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.pv_w = 0.0
    bench.schedule([4000] * 4)
    await bench.run_for(2.0)
    assert bench.home.power_w == pytest.approx(4000)
    limited = structs.replace(bench.agent.config, control=structs.replace(bench.agent.config.control, export_limit_w=0))
    await bench.agent.use(limited)
    await bench.run_for(1.0)
    assert bench.home.power_w == pytest.approx(bench.home.load_w, abs=1)
    await bench.agent.use(structs.replace(limited, control=structs.replace(limited.control, export_limit_w=None)))
    await bench.run_for(1.0)
    assert bench.home.power_w == pytest.approx(4000)


async def test_a_device_at_a_new_address_is_opened_there_and_driven_on(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([1000] * 4)
    await bench.run_for(2.0)
    [device] = bench.agent.config.devices
    await bench.agent.use(structs.replace(bench.agent.config, devices=(structs.replace(device, host="192.0.2.9"),)))
    bench.home.trace.clear()
    await bench.run_for(2.0)
    assert bench.home.trace
    bench.unreachable = True
    with pytest.raises(DeviceTimeout):
        await bench.agent.use(structs.replace(bench.agent.config, devices=(device,)))
    assert bench.agent.silent == ["hybrid"]
    cycles = bench.agent.cycles
    await bench.run_for(1.0)  # without a device the loop goes on
    assert bench.agent.cycles - cycles == 20
