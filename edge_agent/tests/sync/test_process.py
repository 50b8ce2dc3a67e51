"""The whole sync process, as control starts it, against a real broker and real gRPC."""

import asyncio
import json
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.model.clock import SystemClock
from edge_agent.model.config import load
from edge_agent.sync.ipc import ControlSocket
from edge_agent.sync.journal import read_status
from edge_agent.sync.process import Pace, SyncProcess
from edge_agent.tests.sync.agent import Agent
from edge_agent.tests.sync.counterparts import DEADLINE_S, Authority, Broker, Coordinator, until, utc_ms
from protos import services, subjects
from protos.settings import SettingsError
from protos.vpp.v1.broadcast_pb2 import Broadcast, SignedBroadcast
from protos.vpp.v1.intent_pb2 import ArmService, Intent
from protos.vpp.v1.report_pb2 import Acknowledgement, Event
from protos.vpp.v1.supply_pb2 import SupplyFunction

T0_MS = 1_700_000_000_000
TOKEN = subjects.partition_token("home-01")


def arm(sequence: int) -> Intent:
    text = (Path(services.__file__).parent / "ercot-ffr.toml").read_text(encoding="utf-8")
    service = services.parse(text)
    now_ms = utc_ms()
    return Intent(
        site="home-01",
        sequence=sequence,
        issued_ms=now_ms,
        valid_from_ms=now_ms,
        expires_ms=now_ms + 600_000,
        arm=ArmService(
            award_id="a",
            service_id=service.id,
            service_version=service.version,
            contracted_w=3000,
            service_toml=text,
        ),
    )


async def configured(agent: Agent, coordinator: Coordinator) -> None:
    """Starts the agent and waits until it samples and has a session."""
    await agent.start()
    await agent.describe()
    assert await agent.link() is True
    async with asyncio.timeout(DEADLINE_S):
        await coordinator.descriptions.get()
    await until((agent.data_dir / "site-configuration.bin").exists)


async def acknowledgements(broker: Broker) -> list[Acknowledgement]:
    return [
        Acknowledgement.FromString(data)
        for subject, data in await broker.stored("REPORT")
        if subject == subjects.acknowledgement(TOKEN)
    ]


async def reports(broker: Broker) -> list[tuple[str, bytes]]:
    """(subject, body) of every report but those about the clock, which has a test of its own."""
    stored = await broker.stored("REPORT")
    return [r for r in stored if ".evt." not in r[0] or Event.FromString(r[1]).code != "clock.measured"]


async def test_enrols_configures_and_delivers(agent: Agent, broker: Broker, coordinator: Coordinator) -> None:
    coordinator.first_seq = 500
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await agent.start()
    await agent.describe(rated_power_w=5000.0)
    assert await agent.link() is True
    async with asyncio.timeout(DEADLINE_S):
        site, description = await coordinator.descriptions.get()
    assert (site, description.rated_power_w) == ("home-01", 5000.0)
    assert description.agent_version
    await agent.event("e1")
    await agent.acknowledge("a1", sequence=3)
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    told = await reports(broker)
    assert [subject for subject, _ in told] == [subjects.event(TOKEN), subjects.acknowledgement(TOKEN)]
    assert Event.FromString(told[0][1]).site == Acknowledgement.FromString(told[1][1]).site == "home-01"
    assert coordinator.enrolments[0].nats_public_key.startswith("U")
    for name in ("client.key", "nats.nk", "credentials.json", "state.json", "journal.db"):
        assert stat.S_IMODE((agent.data_dir / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(agent.data_dir.stat().st_mode) == 0o700
    assert read_status(agent.data_dir).events_waiting == 0


async def test_snapshots_become_frames_in_the_stream(agent: Agent, broker: Broker, coordinator: Coordinator) -> None:
    coordinator.first_seq = 500
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    for ms in range(0, 2550, 50):
        await agent.snapshot(T0_MS + ms, 50.0 + ms / 10_000)
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    frames = await broker.frames()
    assert [(f.site, f.seq, f.t0_ms) for f in frames] == [(7, 500 + i, T0_MS + 1000 * i) for i in range(3)]
    status = read_status(agent.data_dir)
    assert (status.frames_created, status.frames_acknowledged, status.frames_waiting) == (3, 3, 0)


async def test_a_groups_broadcast_reaches_control_and_a_forged_one_is_an_event(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    """The counterpart's configuration puts the site into group fast, and its credentials do, too."""
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    now_ms = utc_ms()
    said = Broadcast(group="fast", sequence=now_ms, issued_ms=now_ms, expires_ms=now_ms + 60_000)
    said.regulation.signal_e6 = -250_000
    forged = SignedBroadcast.FromString(coordinator.sign_broadcast(said))
    forged.signature = bytes(64)
    async with broker.backend() as backend:

        async def say() -> None:
            while True:  # not before it listens
                await backend.publish("vpp.group.fast.regulation", forged.SerializeToString())
                await backend.publish("vpp.group.fast.regulation", coordinator.sign_broadcast(said))
                await asyncio.sleep(0.05)

        saying = asyncio.create_task(say())
        heard = await agent.broadcast()
        saying.cancel()
    assert heard == said
    assert (await agent.control_goes())[0] == 0
    events = [Event.FromString(data) for subject, data in await reports(broker) if ".evt." in subject]
    refused = [event.text for event in events if event.code == "broadcast.refused"]
    assert refused == ["broadcast refused: vpp.group.fast.regulation: the signature is wrong"]


async def test_a_supply_function_gets_the_sites_slot_and_goes_out(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    offered = SupplyFunction(seq=3, at_ms=utc_ms(), valid_s=300, lower_w=-500, upper_w=500, ticks=[0], power_w=[100])
    async with broker.backend() as backend:
        seen = await backend.subscribe("vpp.sup.>")
        await backend.flush()
        await agent.supply(offered)
        message = await seen.next_msg(timeout=DEADLINE_S)
    assert message.subject == subjects.supply_function(TOKEN)
    offered.site = 7
    assert SupplyFunction.FromString(message.data) == offered
    assert (await agent.control_goes())[0] == 0


async def test_credentials_serve_the_next_start_without_a_claim_file(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    assert (await agent.control_goes())[0] == 0
    agent.claim_file.unlink()
    await configured(agent, coordinator)
    assert (await agent.control_goes())[0] == 0
    assert len(coordinator.enrolments) == 1


def used(coordinator: Coordinator) -> str:
    coordinator.used.add("token-1")
    return coordinator.claim("home-01")


def unknown(coordinator: Coordinator) -> str:
    text = coordinator.claim("home-01")
    coordinator.tokens.clear()
    return text


def expired(coordinator: Coordinator) -> str:
    coordinator.expired.add("token-1")
    return coordinator.claim("home-01")


def wrong_authority(coordinator: Coordinator) -> str:
    return coordinator.claim("home-01", ca_certificates=Authority("another").pem.decode())


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        pytest.param(used, "its token was used before", id="used twice"),
        pytest.param(unknown, "does not know its token", id="unknown"),
        pytest.param(expired, "its token has expired", id="expired"),
        pytest.param(wrong_authority, "does not prove to be the coordinator", id="wrong CA"),
    ],
)
async def test_a_refused_enrolment_ends_in_one_line(
    agent: Agent, coordinator: Coordinator, claim: Callable[[Coordinator], str], expected: str
) -> None:
    agent.claim_file.write_text(claim(coordinator))
    await agent.start()
    code, stderr = await agent.ended()
    assert (code, stderr.count("\n")) == (2, 1), stderr
    assert stderr.startswith(f"vpp-agent: claim file {agent.claim_file}: ")
    assert expected in stderr
    assert "vpp-cloud site claim home-01" in stderr or "make a new claim file" in stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("site = ", "is damaged", id="not TOML"),
        pytest.param('site = "home-01"\n', "is damaged", id="incomplete"),
        pytest.param("other site", "is for site 'home-02'", id="another site's"),
        pytest.param("no pem", "no PEM certificate", id="no certificate"),
    ],
)
async def test_a_claim_file_that_cannot_be_used_ends_in_one_line(
    agent: Agent, coordinator: Coordinator, text: str | None, expected: str
) -> None:
    made = {"other site": coordinator.claim("home-02"), "no pem": coordinator.claim("home-01", ca_certificates="x")}
    if text is not None:
        agent.claim_file.write_text(made.get(text, text))
    await agent.start()
    code, stderr = await agent.ended()
    assert (code, stderr.count("\n")) == (2, 1), stderr
    assert stderr.startswith(f"vpp-agent: claim file {agent.claim_file}: ")
    assert expected in stderr


async def test_an_absent_coordinator_is_waited_for(
    agent: Agent, authority: Authority, broker: Broker, coordinator: Coordinator
) -> None:
    address = coordinator.enrolment_address
    await coordinator.stop()
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await agent.start()
    await agent.describe()
    await agent.event("before")  # kept although there is no identity yet
    await until(lambda: read_status(agent.data_dir).events_waiting == 1)
    await coordinator.start(int(address.rpartition(":")[2]))
    assert await agent.link() is True
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    assert stderr.count("coordinator unreachable") <= 1
    assert [Event.FromString(data).event_id for _, data in await reports(broker)] == ["before"]


async def test_intents_are_checked_forwarded_and_told_again_after_a_restart(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    await coordinator.publish("service", arm(5))
    assert (await agent.intent()).sequence == 5
    assert (await agent.control_goes())[0] == 0
    await agent.start()
    assert (await agent.intent()).sequence == 5
    await coordinator.publish("service", arm(4))
    await coordinator.publish("service", arm(6))
    assert (await agent.intent()).sequence == 6
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    said = [(a.sequence, a.state) for a in await acknowledgements(broker)]
    assert said == [
        (5, Acknowledgement.STATE_RECEIVED),
        (4, Acknowledgement.STATE_REFUSED),
        (6, Acknowledgement.STATE_RECEIVED),
    ]


async def test_renews_when_two_thirds_of_the_life_are_over_and_stays_connected(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    assert (await agent.control_goes())[0] == 0
    held = agent.data_dir / "credentials.json"
    age = json.loads(held.read_text())
    age["received_ms"] -= 3 * 3_600_000  # held for three of four hours
    held.write_text(json.dumps(age))
    await configured(agent, coordinator)
    async with asyncio.timeout(DEADLINE_S):
        assert await coordinator.renewed.get() == "home-01"
    await coordinator.publish("service", arm(1))  # proves a live session, by the new credentials or the old
    assert (await agent.intent()).sequence == 1
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    assert (coordinator.renewals, len(coordinator.enrolments)) == (1, 1)
    assert "session lost" not in stderr
    assert json.loads(held.read_text())["received_ms"] > age["received_ms"] + 3_600_000


async def test_a_wrong_clock_is_said(agent: Agent, broker: Broker, coordinator: Coordinator) -> None:
    coordinator.clock_offset_ms = 60_000
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    events = [Event.FromString(data) for _, data in await broker.stored("REPORT")]
    assert [event.code for event in events] == ["clock.offset"]
    assert " -60.0" in events[0].text


async def test_the_coordinators_time_reaches_control_with_its_uncertainty(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    coordinator.clock_offset_ms = 60_000
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    time = await agent.coordinator_time()
    known_ms = 1e3 * SystemClock().monotonic_s() + time.ahead_ms
    assert abs(known_ms - (utc_ms() + 60_000)) <= time.uncertainty_ms + 20
    assert (await agent.control_goes())[0] == 0


async def test_a_slow_clock_does_not_refuse_what_the_coordinator_says_now(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    """By its own clock the intent would be from the future: it knows better, by the coordinator's."""
    coordinator.clock_offset_ms = 60_000
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    await agent.coordinator_time()
    early = arm(5)
    early.issued_ms = early.valid_from_ms = utc_ms() + 60_000
    await coordinator.publish("service", early)
    assert (await agent.intent()).sequence == 5
    assert (await agent.control_goes())[0] == 0


async def test_killed_and_started_again_it_repeats_and_loses_nothing(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    await broker.kill()
    for ms in range(0, 10_050, 50):
        await agent.snapshot(T0_MS + ms, 50.0)
    await until(lambda: read_status(agent.data_dir).frames_waiting == 10)
    await agent.kill()
    await broker.start()
    await agent.start()
    assert await agent.link() is True
    for ms in range(10_000, 12_050, 50):
        await agent.snapshot(T0_MS + ms, 50.0)
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    frames = await broker.frames()
    assert [f.seq for f in frames] == list(range(1, 1 + len(frames)))
    assert [f.t0_ms for f in frames] == [T0_MS + 1000 * i for i in range(len(frames))]
    assert len(frames) == 13


async def test_two_agents_in_one_folder_are_refused(agent: Agent, coordinator: Coordinator) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = ControlSocket(theirs.detach())
    with ours, pytest.raises(SettingsError, match="another agent works in it"):
        await SyncProcess(load(agent.config), control, ImpatientClock(), Pace()).run()
    control.close()
    assert (await agent.control_goes())[0] == 0


class ImpatientClock:
    """An hour passes between two looks at it."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic_s(self) -> float:
        self._now_s += 3600.0
        return self._now_s

    def utc_ms(self) -> int:
        return int(self.monotonic_s() * 1000)


async def test_what_does_not_parse_from_control_is_passed_over(
    agent: Agent, broker: Broker, coordinator: Coordinator
) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await configured(agent, coordinator)
    await agent.send_raw(b"\xff\xff\xff")
    await agent.event("after")
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    assert "does not parse" in stderr
    assert [Event.FromString(data).event_id for _, data in await reports(broker)] == ["after"]


async def test_a_start_from_the_wrong_place_is_refused(agent: Agent, coordinator: Coordinator) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "edge_agent.sync", "--config", str(agent.config), "--fd", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 2
    assert stderr.decode().startswith("vpp-agent: --fd 0: is no socket")


async def test_a_full_disk_is_one_line_and_another_start(agent: Agent) -> None:
    for takes in (0, 300, 2000):  # bytes of a file: no key, no journal, a little of it
        await agent.start(disk_takes=takes)
        code, said = await agent.ended()
        assert code == 1, said  # not 2, which would have control end: that is the disk's trouble, and may pass
        assert said.count("\n") == 1, said
        assert " ERROR __main__: disk: " in said
        agent.hang_up()
