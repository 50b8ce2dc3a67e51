"""Devices of profiles are recognised by themselves, with a configuration that can be used; and nothing is written."""

from pathlib import Path

import pytest
from msgspec import structs

from edge_agent.commands import addresses, line_speed
from edge_agent.commands.addresses import parse_addresses
from edge_agent.commands.probe import Found, Nothing, as_configuration, probe
from edge_agent.drivers.opening import profile_of
from edge_agent.drivers.profile_loading import load, shipped
from edge_agent.drivers.transaction import Table
from edge_agent.model import config as agent_config
from edge_agent.model.config import SerialSettings
from hil.rigs.dumped import Block, Dump, DumpedDevice
from hil.rigs.profile_device import ProfileDevice, Values
from hil.rigs.rtu_proxy import RtuProxy
from hil.rigs.served import Refused, TcpDevice, on_line

PROFILES = {name: load(name) for name in shipped()}
KNOWN = [name for name, profile in PROFILES.items() if profile.identification is not None]


class Listening(DumpedDevice):
    """Remembers what it is asked."""

    def __init__(self, *blocks: Block) -> None:
        super().__init__(Dump(unit_id=1, blocks=blocks))
        self.asked: list[tuple[Table, int]] = []

    def read(self, table: Table, address: int, count: int) -> list[int]:
        self.asked.append((table, address))
        return super().read(table, address, count)


@pytest.fixture(autouse=True)
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are the wire's business, and tested there."""
    quick = {
        n: structs.replace(p, link=structs.replace(p.link, pause_s=0.0, pause_after_write_s=0.0))
        for n, p in PROFILES.items()
    }
    for module in ("edge_agent.commands.probe", "edge_agent.drivers.opening"):
        monkeypatch.setattr(f"{module}.load", quick.__getitem__)


def configured(file: Path, results: list[Found | Nothing]) -> agent_config.AgentConfig:
    """What was proposed, as check-config reads it."""
    file.write_text(as_configuration(results, "home-01"))
    config = agent_config.load(file)
    for device in config.devices:
        profile_of(device)
    return config


@pytest.mark.parametrize("name", KNOWN)
async def test_a_device_is_recognised_where_its_maker_puts_it(name: str, tmp_path: Path) -> None:
    identification = PROFILES[name].identification
    assert identification is not None
    unit_id = (*identification.unit_ids, 1)[0]
    device = ProfileDevice(PROFILES[name], Values(), now_s=lambda: 0.0)
    async with TcpDevice(device, unit_id=unit_id) as served:
        results = await probe(parse_addresses([f"127.0.0.1:{served.port}"]))
    [found] = results
    assert isinstance(found, Found), found
    assert device.writes == 0
    assert (found.config.profile, found.config.unit_id) == (name, unit_id)
    assert f"(profile {name}), {'for certain' if identification.by == 'type' else 'perhaps'}" in found.words[0]
    assert found.words[1].startswith("known by: ")
    [proposed] = configured(tmp_path / "agent.toml", results).devices
    assert (proposed.driver, proposed.profile, proposed.unit_id) == ("profile", name, unit_id)
    assert proposed.read_only


def test_how_each_is_known_is_said_with_its_source_and_is_no_others() -> None:
    """Two profiles that are known by the same register expect other values there."""
    expected: dict[tuple[str, int], set[int | str]] = {}
    for name in KNOWN:
        identification = PROFILES[name].identification
        assert identification is not None
        assert identification.source
        for check in identification.checks if identification.by == "type" else ():
            seen = expected.setdefault((check.table or PROFILES[name].link.table, check.address), set())
            values = {*check.values} if check.values else {check.pattern or ""}
            assert not seen & values, f"{name}: {check.address}"
            seen |= values


async def test_a_device_that_no_profile_knows_is_described_and_the_next_steps_are_told(tmp_path: Path) -> None:
    device = Listening(Block(address=100, registers=(230,)), Block(address=1000, table="input", registers=(7, 8)))
    async with TcpDevice(device) as served:
        where = f"127.0.0.1:{served.port}"
        [result] = results = await probe(parse_addresses([where]), [1, 2])
    assert isinstance(result, Nothing)
    assert "no SunSpec map" in result.why
    assert result.next[0] == "it answers Modbus as unit 1: holding 100; input 1000 of those tried"
    told = "\n".join(result.next)
    assert "enable that in its menu" in told
    assert "--profile, one of " in told
    assert f"vpp-agent dump {where} --unit-id 1 --registers holding:0-99" in told
    assert device.writes == 0
    text = as_configuration(results, "home-01")
    assert all(line.startswith("#") for line in text.split('claim.toml"\n')[1].split("\n") if line), text


async def test_two_profiles_that_are_plausible_are_both_told() -> None:
    """Numbers that could be a Janitza's and a Solis's: neither is certain."""
    volts = (0x4367, 0x0000) * 3  # 231 V each
    device = DumpedDevice(
        Dump(
            unit_id=1,
            blocks=(
                Block(address=19000, registers=(*volts, *(0,) * 22)),
                Block(address=33139, table="input", registers=(62,)),
                Block(address=33282, table="input", registers=(4998,)),
                Block(address=33057, table="input", registers=(0, 900)),
                Block(address=33263, table="input", registers=(0, 100)),
            ),
        )
    )
    async with TcpDevice(device) as served:
        [found] = await probe(parse_addresses([f"127.0.0.1:{served.port}"]), [1])
    assert isinstance(found, Found)
    assert found.config.profile == "janitza-umg"
    assert "perhaps" in found.words[0]
    assert found.words[2].startswith("profile solis-hybrid fits as well, by: input register 33139 is 62")


async def test_what_does_not_bear_being_asked_is_left_alone() -> None:
    device = Listening(Block(address=43, registers=(3401,)))
    async with TcpDevice(device) as served:
        [result] = await probe(parse_addresses([f"127.0.0.1:{served.port}"]), [1])
    assert isinstance(result, Nothing)
    assert "off-grid inverter of Growatt's" in result.why
    assert device.asked == [(Table.HOLDING, 43)]


async def test_a_type_that_is_known_but_reads_otherwise_says_so() -> None:
    """Only its type stands there: what the profile reads does not."""
    device = DumpedDevice(Dump(unit_id=1, blocks=(Block(address=40000, registers=(0xE3DC,)),)))
    with pytest.raises(Refused):
        device.read(Table.HOLDING, 40067, 2)
    async with TcpDevice(device) as served:
        [result] = await probe(parse_addresses([f"127.0.0.1:{served.port}"]), [1])
    assert isinstance(result, Nothing)
    assert "taken for E3/DC S10" in result.why
    assert "does not fit this device" in result.why


async def test_a_serial_line_is_found_at_the_speed_it_is_spoken_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(addresses, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(line_speed, "OTHERS", line_speed.OTHERS[-2:])
    device = ProfileDevice(PROFILES["eastron-sdm630"], Values(), now_s=lambda: 0.0)
    async with RtuProxy(SerialSettings(baudrate=38_400), serve=on_line({2: device})) as proxy:
        results = await probe(parse_addresses([proxy.path]), [2])
    [found] = configured(tmp_path / "agent.toml", results).devices
    assert (found.profile, found.serial, found.unit_id) == ("eastron-sdm630", proxy.path, 2)
    assert found.serial_settings == SerialSettings(baudrate=38_400)
    assert device.writes == 0


async def test_a_line_where_nobody_speaks_says_what_was_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(addresses, "TIMEOUT_S", 0.02)
    monkeypatch.setattr(line_speed, "OTHERS", line_speed.OTHERS[:1])
    async with RtuProxy(SerialSettings(), serve=on_line({})) as proxy:
        results = await probe(parse_addresses([proxy.path]), [7])
    [nothing] = results
    assert isinstance(nothing, Nothing)
    assert nothing.why == (
        "nothing is heard of unit 7 at 9600 baud, parity none, 1 stop bit(s); 19200 baud, parity even, 1 stop bit(s)"
    )
    assert "swap A and B" in nothing.next[0]
    proposed = as_configuration(results, "home-01").split('claim.toml"\n')[1]
    assert all(line.startswith("#") for line in proposed.splitlines() if line), proposed
