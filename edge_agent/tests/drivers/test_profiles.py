"""Profiles as files: what is shipped, what is refused, and what the registers of real devices say by them."""

import struct
from pathlib import Path

import pytest

from edge_agent.drivers import profile_of
from edge_agent.drivers.profile import Profile, Step
from edge_agent.drivers.profile_control import encoded
from edge_agent.drivers.profile_device import ProfileDevice
from edge_agent.drivers.profile_loading import load, shipped
from edge_agent.drivers.transaction import READ_ONLY, Table, Write, WriteAllowance
from edge_agent.model.config import DeviceConfig, EvChargerConfig, FlexibleLoadConfig, NameplateConfig
from edge_agent.model.devices import DeviceFault, DeviceRejected
from edge_agent.model.values import Applied, Setpoint
from protos.settings import SettingsError

GOOD = """\
title = "A hybrid"
sources = ["its manual"]

[nameplate]
manufacturer = "Example"
model = "H"
serial = { address = 10, type = "string", words = 4 }

[inverter]
power_w = [{ address = 100, type = "int32", unit = "W", positive = "export" }]
pv_power_w = [{ address = 102, type = "uint16", unit = "W" }]
soc = [{ address = 103, type = "uint16", unit = "%" }]

[control]
reference = "storage"
reversion = { kind = "watchdog", seconds = 30 }
setpoint = [{ address = 200, type = "int16", unit = "W", carries = "power", positive = "import" }]

[[writable]]
first = 200
last = 200
"""


class Registers:
    """A connection to registers that are simply there."""

    def __init__(self, words: dict[tuple[Table, int], int], allowance: WriteAllowance = READ_ONLY) -> None:
        self.unit_id = 1
        self.words = words
        self.allowance = allowance
        self.reads: list[tuple[Table, int, int]] = []
        self.written: list[tuple[Write, int, list[int]]] = []

    async def read(self, address: int, count: int, what: object, table: Table = Table.HOLDING) -> list[int]:
        self.reads.append((table, address, count))
        return [self.words.get((table, register), 0) for register in range(address, address + count)]

    async def write(self, address: int, registers: list[int], what: object, function: Write = Write.MULTIPLE) -> None:
        self.allowance.check("writing", function, address, len(registers))
        self.written.append((function, address, registers))

    async def connect(self) -> None: ...

    async def close(self) -> None: ...


class Clock:
    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def utc_ms(self) -> int:
        return 0


def config(**changes: object) -> DeviceConfig:
    given = {"name": "hybrid", "driver": "profile", "profile": "x.toml", "host": "127.0.0.1", **changes}
    return DeviceConfig(**given)  # type: ignore[arg-type]


async def opened(described: Profile, registers: Registers, **changes: object) -> ProfileDevice:
    device = ProfileDevice(config(**changes), described, registers, Clock())
    await device.start()
    return device


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "own.toml"
    file.write_text(text)
    return str(file)


# ---- files


def test_at_least_fifteen_are_shipped_and_each_names_its_sources() -> None:
    assert len(shipped()) >= 15
    for name in shipped():
        profile = load(name)
        assert all(len(source) > 20 for source in profile.sources)
        assert profile.title


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("title =", "titel ="), "$.titel: unknown key; did you mean title?"),
        (('sources = ["its manual"]\n', ""), "$.sources: is missing; give where each fact comes from"),
        (("address = 102", "address = 70000"), "as it is on the wire, 0 to 65535"),
        (('type = "uint16", unit = "%"', 'type = "uint17", unit = "%"'), "$.inverter.soc"),
        (("address = 102", "address = 101"), "$.inverter.pv_power_w: address 101: overlaps int32 at 100"),
        ((', positive = "export"', ""), "$.inverter.power_w: address 100: say which way it counts"),
        (('unit = "%"', 'unit = "V"'), "$.inverter.soc: address 103: unit 'V'; give one of ['%']"),
        (("words = 4", "scale = 1"), "words belongs to a string"),
        (("first = 200\nlast = 200", "first = 201\nlast = 201"), "register 200 is not in [[writable]]"),
        (('carries = "power", positive = "import"', "value = 1"), "no write carries the power"),
        (('carries = "power"', 'value = 1, carries = "power"'), "give either value or carries"),
        ((", seconds = 30", ""), 'seconds belongs to kind "watchdog"'),
        (('kind = "watchdog", seconds = 30', 'kind = "timer"'), 'needs a write that carries = "lifetime"'),
        (
            ('kind = "watchdog", seconds = 30', 'kind = "none"'),
            "$.control.release: is missing, and no watchdog lets go",
        ),
        (('pv_power_w = [{ address = 102, type = "uint16", unit = "W" }]\n', ""), "give inverter.pv_power_w, or"),
        (("[control]\n", "[control]\nwatt = 1\n"), "$.control.watt: unknown key"),
        (('type = "int16", unit = "W", carries', 'type = "int16", unit = "V", carries'), "give W or kW"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    assert change[0] in GOOD
    file = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(SettingsError) as refused:
        load(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_nothing_writes_may_not_be_writable(tmp_path: Path) -> None:
    meter = GOOD.split("[inverter]")[0] + (
        '[meter]\npower_w = [{ address = 1, type = "int16", unit = "W", positive = "import" }]\n'
        "[[writable]]\nfirst = 5\nlast = 5\n"
    )
    with pytest.raises(SettingsError, match=r"\$\.writable: nothing of the profile writes"):
        load(written(tmp_path, meter))


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no profile huawei; give one of abb-terra-ac, .*your own"):
        load("huawei")


# ---- registers of real devices, as they were published


def floats(at: int, *values: float) -> dict[int, int]:
    words = [word for value in values for word in struct.unpack(">HH", struct.pack(">f", value))]
    return {at + index: word for index, word in enumerate(words)}


async def meter_of(name: str, table: Table, words: dict[int, int]) -> tuple[float | None, float | None, float | None]:
    registers = Registers({(table, register): word for register, word in words.items()})
    device = await opened(load(name), registers)
    assert device.meter is not None
    reading = await device.meter.read_meter()
    return reading.power_w.good, reading.frequency_hz.good, reading.voltage_v.good


async def test_sdm630_reads_the_published_example() -> None:
    """Eastron's protocol, section 1.3: 43 66 33 34 is 230.2 V."""
    words = {0: 0x4366, 1: 0x3334} | floats(0x34, 1500.0) | floats(0x46, 50.02)
    power_w, frequency_hz, voltage_v = await meter_of("eastron-sdm630", Table.INPUT, words)
    assert power_w == -1500.0  # importing
    assert frequency_hz == pytest.approx(50.02)
    assert voltage_v == pytest.approx(230.2)


async def test_em340_counts_low_words_first_in_tenths() -> None:
    # 230.5 V as 2305, -1234.5 W (exporting) as -12345
    minus = (-12345) & 0xFFFFFFFF
    words = {0: 2305, 1: 0, 0x28: minus & 0xFFFF, 0x29: minus >> 16, 0x33: 499}
    power_w, frequency_hz, voltage_v = await meter_of("carlo-gavazzi-em340", Table.INPUT, words)
    assert power_w == pytest.approx(1234.5)
    assert frequency_hz == pytest.approx(49.9)
    assert voltage_v == pytest.approx(230.5)


async def test_janitza_reads_the_published_example() -> None:
    """UMG 96-S2 manual, section 9: 19000 holds voltage L1-N as a float."""
    words = floats(19000, 230.0) | floats(19026, -700.0)
    assert await meter_of("janitza-umg", Table.HOLDING, words) == (700.0, None, 230.0)


async def test_sma_says_nothing_at_night_and_nothing_is_made_up() -> None:
    """What SMA's registers hold where there is no value: 0x80000000 and 0xFFFFFFFF."""
    words = {30773: 0x8000, 30774: 0, 30961: 0x8000, 30962: 0, 30775: 0x8000, 30776: 0, 30803: 0xFFFF, 30804: 0xFFFF}
    registers = Registers({(Table.HOLDING, register): word for register, word in words.items()})
    device = await opened(load("sma-tripower"), registers)
    assert device.inverter is not None
    reading = await device.inverter.read_inverter()
    assert reading.power_w.good is reading.pv_power_w.good is reading.frequency_hz.good is None


async def test_solaredge_scales_by_the_registers_beside() -> None:
    words = {40083: 12345, 40084: 0xFFFF, 40085: 5003, 40086: 0xFFFE, 40079: 2312, 40082: 0xFFFF}  # SF -1, -2, -1
    registers = Registers({(Table.HOLDING, register): word for register, word in words.items()})
    device = await opened(load("solaredge-storedge"), registers, read_only=True)
    assert device.inverter is not None
    reading = await device.inverter.read_inverter()
    assert reading.power_w.good == pytest.approx(1234.5)
    assert reading.frequency_hz.good == pytest.approx(50.03)
    assert reading.voltage_v.good == pytest.approx(231.2)


async def test_neighbours_are_read_together_and_holes_are_not_read_along(tmp_path: Path) -> None:
    registers = Registers({})
    device = await opened(load(written(tmp_path, GOOD)), registers, read_only=True)
    registers.reads.clear()
    assert device.inverter is not None
    await device.inverter.read_inverter()
    assert registers.reads == [(Table.HOLDING, 100, 4)]


# ---- writing


RATINGS = NameplateConfig(rated_power_w=5000, max_charge_w=4000, max_discharge_w=4000, storage_capacity_wh=9000)


async def test_only_what_is_listed_reaches_the_wire(tmp_path: Path) -> None:
    profile = load(written(tmp_path, GOOD))
    registers = Registers({(Table.HOLDING, 102): 300}, profile.allowance)
    device = await opened(profile, registers, nameplate=RATINGS)
    assert device.control is not None
    assert device.inverter is not None
    await device.inverter.read_inverter()
    await device.control.write_power(Applied(Setpoint(power_w=1000.0, source="test", expires_s=1e9)), 10.0)
    assert registers.written == [(Write.MULTIPLE, 200, [(-700) & 0xFFFF])]  # the panels give 300 W, the storage 700 W
    for function, address, words in ((Write.MULTIPLE, 199, [0, 0]), (Write.SINGLE, 201, [1]), (Write.COIL, 200, [1])):
        with pytest.raises(DeviceRejected, match="not on the list of those that may be written"):
            await registers.write(address, words, "anything", function)


async def test_read_only_has_no_writable_half(tmp_path: Path) -> None:
    device = await opened(load(written(tmp_path, GOOD)), Registers({}), read_only=True)
    assert device.control is None
    relay = await opened(load("relay-coil"), Registers({}), read_only=True)
    assert relay.switch is not None
    assert relay.switch_control is None


async def test_ratings_that_nobody_tells_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DeviceFault, match=r"device hybrid: does not tell rated_power_w, .*\[devices.nameplate\]"):
        await opened(load(written(tmp_path, GOOD)), Registers({}))


async def test_without_the_panels_power_no_storage_power_is_made_up(tmp_path: Path) -> None:
    profile = load(written(tmp_path, GOOD))
    registers = Registers({(Table.HOLDING, 102): 0xFFFF}, profile.allowance)
    device = await opened(profile, registers, nameplate=RATINGS)
    assert device.control is not None
    assert device.inverter is not None
    await device.inverter.read_inverter()
    with pytest.raises(DeviceRejected, match="the power of its panels is not known"):
        await device.control.write_power(Applied(Setpoint(power_w=1000.0, source="test", expires_s=1e9)), 10.0)
    assert registers.written == []


async def steered(name: str, words: dict[int, int], table: Table) -> tuple[ProfileDevice, Registers, Clock]:
    """A device of a profile whose panels are read, ready for a setpoint."""
    profile, clock = load(name), Clock()
    registers = Registers({(table, register): word for register, word in words.items()}, profile.allowance)
    device = ProfileDevice(config(nameplate=RATINGS), profile, registers, clock)
    await device.start()
    assert device.inverter is not None
    await device.inverter.read_inverter()
    return device, registers, clock


def asked(power_w: float) -> Applied:
    return Applied(Setpoint(power_w=power_w, source="test", expires_s=1e9))


@pytest.mark.parametrize(
    ("power_w", "words"),
    [
        pytest.param(-2500.0, [65535, 63036], id="evcc issue 15440: -1 and -2500, from the grid"),
        pytest.param(2500.0, [0, 2500], id="evcc issue 15440: 0 and 2500"),
        pytest.param(-3000.0, [65535, 62536], id="ha-modbus-akku-adapter's register reference: 3000 W to charge"),
    ],
)
async def test_sma_smart_energy_is_written_as_published(power_w: float, words: list[int]) -> None:
    """802 lets it be steered; it may overhear the first power, so that both are written again 2 s later."""
    device, registers, clock = await steered("sma-tripower-smart-energy", {}, Table.HOLDING)
    both = [(Write.MULTIPLE, 40151, [0, 802]), (Write.MULTIPLE, 40149, words)]
    assert device.control is not None
    for after_s, times in ((0.0, 1), (1.9, 1), (0.2, 2), (250.0, 2), (60.0, 3)):
        clock.now_s += after_s
        await device.control.write_power(asked(power_w), 10.0)
        assert registers.written == both * times
    await device.control.release()
    assert registers.written[-1] == (Write.MULTIPLE, 40151, [0, 803])


@pytest.mark.parametrize(
    ("power_w", "writes"),
    [
        # The panels give 900 W, which stay; the storage takes or gives the rest. In 10 W, for 2 minutes.
        pytest.param(-1100.0, [(43135, 1), (43136, 200), (43282, 2)], id="2000 W into the storage"),
        pytest.param(1900.0, [(43135, 2), (43129, 100), (43282, 2)], id="1000 W out of it"),
    ],
)
async def test_solis_is_written_as_published(power_w: float, writes: list[tuple[int, int]]) -> None:
    device, registers, _ = await steered("solis-hybrid", {33058: 900}, Table.INPUT)
    assert device.control is not None
    await device.control.write_power(asked(power_w), 10.0)
    assert registers.written == [(Write.SINGLE, register, [word]) for register, word in writes]
    await device.control.release()
    assert registers.written[-1] == (Write.SINGLE, 43135, [0])


@pytest.mark.parametrize(
    ("power_w", "words"),
    [
        # The panels give 900 W. As in solis_modbus's tests, where 3000 W of charge are 300; less than nothing gives.
        pytest.param(-2100.0, [2, 0, 300], id="3000 W into the storage"),
        pytest.param(1900.0, [2, 0xFFFF, 0xFF9C], id="1000 W out of it"),
    ],
)
async def test_solis_is_dispatched_as_published(power_w: float, words: list[int]) -> None:
    """What it is told while it enters the dispatch may be lost: once more 10 s later, then as its fail-safe needs."""
    device, registers, clock = await steered("solis-hybrid-dispatch", {33058: 900}, Table.INPUT)
    assert device.control is not None
    assert device.inverter is not None
    both = [(Write.MULTIPLE, 44100, [1, 1]), (Write.MULTIPLE, 44105, words)]
    lost = [1, 0, 0]  # as the inverter itself sets them on its way into the dispatch
    for after_s, times, shown in ((0.0, 1, lost), (9.0, 1, lost), (1.5, 2, words), (20.0, 2, words), (11.0, 3, words)):
        clock.now_s += after_s
        registers.words.update({(Table.HOLDING, 44100 + n): word for n, word in enumerate([1, 1, 0, 0, 0, *shown])})
        await device.inverter.read_inverter()
        await device.control.write_power(asked(power_w), 10.0)
        assert registers.written == both * times
    await device.control.release()
    assert registers.written[-2:] == [(Write.SINGLE, 44105, [1]), (Write.SINGLE, 44100, [0])]


async def test_solis_that_stays_out_of_its_dispatch_is_told_of() -> None:
    device, registers, clock = await steered("solis-hybrid-dispatch", {33058: 900}, Table.INPUT)
    assert device.control is not None
    assert device.inverter is not None
    registers.words[Table.HOLDING, 44105] = 1
    for _ in range(11):
        await device.inverter.read_inverter()
        await device.control.write_power(asked(1900.0), 10.0)
        clock.now_s += 1.0
    await device.inverter.read_inverter()
    with pytest.raises(DeviceRejected, match="does not hold what it was told"):
        await device.control.write_power(asked(1900.0), 10.0)


def test_what_is_read_only_though_it_has_storage_says_why() -> None:
    for name in shipped():
        profile = load(name)
        if profile.inverter is not None and profile.inverter.soc and profile.control is None:
            assert any(caveat.startswith("it is read only") for caveat in profile.caveats), name


def step(**given: object) -> Step:
    return Step(address=1, carries="power", unit="W", positive="export", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "raw", "words"),
    [
        (step(type="int32"), -2.0, (0xFFFF, 0xFFFE)),
        (step(type="int32", word_order="little"), -2.0, (0xFFFE, 0xFFFF)),
        (step(type="float32", word_order="little"), 1.0, (0, 0x3F80)),
        (step(type="uint16"), 7.9, (7,)),
    ],
)
def test_words_of_a_write(how: Step, raw: float, words: tuple[int, ...]) -> None:
    assert encoded(how, raw, "big") == words


@pytest.mark.parametrize(("how", "raw"), [(step(type="int16"), 40_000.0), (step(type="uint16"), -1.0)])
def test_what_does_not_fit_is_refused(how: Step, raw: float) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encoded(how, raw, "big")


# ---- chargers and loads

CHARGER = """\
title = "A charger"
sources = ["its manual"]

[nameplate]
manufacturer = "Example"
model = "C"

[ev_charger]
power_w = [{ address = 1, type = "uint16", unit = "W", positive = "import" }]
plugged = [{ address = 2, type = "uint16", mask = 0x0F, are = [3, 4] }]

[control]
reference = "ac"
reversion = { kind = "timer" }
setpoint = [
  { address = 10, type = "uint16", unit = "s", carries = "lifetime", least = 10, greatest = 60 },
  { address = 11, type = "uint16", unit = "A", carries = "current" },
]
engage = [{ address = 12, type = "uint16", unit = "mA", carries = "fallback" }]

[[writable]]
first = 10
last = 12
"""
CAR = EvChargerConfig(max_current_a=16.0, phases=3, fallback_current_a=7.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((", are = [3, 4]", ""), "`are` belongs to a state, and a state needs it"),
        (('unit = "A", carries', 'unit = "W", carries'), "unit 'W'; give A or mA"),
        (("[ev_charger]", "[inverter]\nsoc = []\n[ev_charger]"), "stands beside [inverter]; give each a profile"),
        (('carries = "current"', "value = 1"), "no write carries the power"),
    ],
)
def test_a_chargers_profile_that_contradicts_itself_is_refused(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    assert change[0] in CHARGER
    with pytest.raises(SettingsError) as refused:
        load(written(tmp_path, CHARGER.replace(*change)))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("asked_w", "lifetime_s", "registers"),
    [
        pytest.param(-11_040.0, 30.0, [30, 16], id="all of it"),
        pytest.param(-6_000.0, 30.0, [30, 8], id="8.7 A are no more than 8 where it takes whole amperes"),
        pytest.param(-4_000.0, 30.0, [30, 0], id="less than 6 A rest"),
        pytest.param(0.0, 2.0, [10, 0], id="a timer that takes no less than 10 s"),
        pytest.param(0.0, 300.0, [60, 0], id="nor more than 60"),
    ],
)
async def test_a_charger_is_told_currents_rounded_down(
    tmp_path: Path, asked_w: float, lifetime_s: float, registers: list[int]
) -> None:
    profile = load(written(tmp_path, CHARGER))
    shown = {(Table.HOLDING, 2): 0xF3} | {(Table.HOLDING, 10 + n): word for n, word in enumerate(registers)}
    wire = Registers(shown, profile.allowance)
    device = await opened(profile, wire, ev_charger=CAR)
    assert device.charger is not None
    assert device.control is not None
    assert (await device.charger.read_charger()).plugged is True
    await device.control.write_power(Applied(Setpoint(power_w=asked_w, source="test", expires_s=1e9)), lifetime_s)
    assert wire.written == [(Write.MULTIPLE, 12, [7000]), (Write.MULTIPLE, 10, registers)]


@pytest.mark.parametrize(
    ("relay", "power_w", "coil"),
    [("runs", -2000.0, 1), ("runs", 0.0, 0), ("locks", -2000.0, 0), ("locks", 0.0, 1)],
)
async def test_a_load_behind_a_relay_runs_or_is_locked(
    monkeypatch: pytest.MonkeyPatch, relay: str, power_w: float, coil: int
) -> None:
    profile = load("relay-coil")
    wire = Registers({}, profile.allowance)
    owner = FlexibleLoadConfig(power_w=2000.0, relay=relay)  # type: ignore[arg-type]
    device = await opened(profile, wire, flexible_load=owner)
    assert device.load is not None
    assert device.control is not None
    for _ in range(3):
        await device.control.write_power(Applied(Setpoint(power_w=power_w, source="test", expires_s=1e9)), 30.0)
    assert wire.written == [(Write.COIL, 0, [coil])]
    wire.words[Table.COIL, 0] = coil
    monkeypatch.setattr(Clock, "now_s", 110.0)
    assert (await device.load.read_load()).power_w.good == power_w
    await device.control.release()
    assert wire.written[-1] == (Write.COIL, 0, [1 if relay == "runs" else 0]), "its own thermostat decides"


@pytest.mark.parametrize(
    ("profile", "tables", "told"),
    [
        ("keba-p30", {}, r"is a charger; give a table \[devices.ev_charger\]"),
        ("relay-coil", {"ev_charger": CAR}, "is no charger; leave the table out"),
        ("mypv-ac-elwa-2", {}, r"give a table \[devices.flexible_load\] with power_w"),
        ("eastron-sdm630", {"flexible_load": FlexibleLoadConfig(power_w=1.0)}, "neither a load nor a relay"),
        (
            "relay-coil",
            {"flexible_load": FlexibleLoadConfig(power_w=1.0, comfort_min_c=40.0, comfort_max_c=60.0)},
            "tells no temperature; leave it out, and give max_off_s",
        ),
        ("mypv-ac-elwa-2", {"flexible_load": FlexibleLoadConfig(power_w=1.0, relay="locks")}, "is no relay"),
    ],
)
def test_what_the_owner_says_has_to_fit_the_profile(profile: str, tables: dict[str, object], told: str) -> None:
    with pytest.raises(DeviceFault, match=told):
        profile_of(config(profile=profile, **tables))
