"""A SunSpec device in software. Its registers are encoded by pysunspec2's own classes, so that they are an oracle
independent of the codec under test; pymodbus serves them on a free port of the loopback."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sunspec2.device as oracle
from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.drivers import open_device
from edge_agent.model.config import DeviceConfig
from hil.contract import Truth

BASE = 40000
MARKER = [0x5375, 0x6E53]
RATED_W = 5000


class ManualClock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def utc_ms(self) -> int:
        return int(self.now_s * 1000)


def hybrid_models() -> list[dict[str, Any]]:
    """A hybrid inverter with PV and battery: raw values, as pysunspec2 takes them."""
    return [
        {"ID": 1, "Mn": "Oracle Power", "Md": "Hybrid 5", "SN": "H5-0001", "Vr": "1.0", "DA": 1},
        {"ID": 701, "ACType": 0, "W": 1200, "LNV": 2400, "Hz": 60010, "W_SF": 0, "V_SF": -1, "Hz_SF": -3},
        {
            "ID": 702, "WMaxRtg": 500, "WMax": 480, "WChaRteMaxRtg": 400, "WDisChaRteMaxRtg": 450, "VNomRtg": 2400,
            "VNom": 2400, "W_SF": 1, "V_SF": -1,
        },
        {
            "ID": 704, "WSetEna": 0, "WSetMod": 0, "WSet": 0, "WSetRvrt": 0, "WSetEnaRvrt": 0, "WSetRvrtTms": 0,
            "WSetRvrtRem": 0, "WSet_SF": 0,
        },
        {"ID": 713, "WHRtg": 1350, "SoC": 6250, "WH_SF": 1, "Pct_SF": -2},
        {
            "ID": 714, "NPrt": 2, "DCW_SF": 0,
            "Prt": [{"PrtTyp": 0, "IDStr": "PV", "DCW": 900}, {"PrtTyp": 1, "IDStr": "ESS", "DCW": 300}],
        },
        {"ID": 203, "W": -80, "PhV": 2398, "Hz": 6001, "W_SF": 1, "V_SF": -1, "Hz_SF": -2},
    ]  # fmt: skip


def encode(models: list[dict[str, Any]]) -> tuple[list[int], dict[int, tuple[int, oracle.Model]]]:
    """The whole map as registers, and each model with the index of its ID."""
    registers, placed = list(MARKER), {}
    for values in models:
        model = oracle.Model(model_id=values["ID"], data=values)
        placed[values["ID"]] = (len(registers), model)
        data = model.get_mb()
        registers += struct.unpack(f">{len(data) // 2}H", data)
    return [*registers, 0xFFFF, 0], placed


@dataclass
class SunSpecServer:
    """The device. What it is told and what it does about it can be looked at and interfered with."""

    clock: ManualClock
    registers: list[int]
    placed: dict[int, tuple[int, oracle.Model]] = field(default_factory=dict)
    unit_id: int = 1
    base: int = BASE
    silent: bool = False
    deaf: bool = False  # accepts writes and forgets them
    refuse_reads: Callable[[int, int], bool] = lambda address, count: False
    reads: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, list[int]]] = field(default_factory=list)
    expires_s: float | None = None
    server: ModbusTcpServer | None = None

    @property
    def port(self) -> int:
        assert self.server is not None
        assert isinstance(self.server.transport, asyncio.Server)
        return int(self.server.transport.sockets[0].getsockname()[1])

    def config(self, **changes: Any) -> DeviceConfig:
        given = {"name": "hybrid", "driver": "sunspec", "host": "127.0.0.1", "port": self.port, "timeout_s": 0.5}
        return DeviceConfig(**{"unit_id": self.unit_id, **given, **changes})

    def address(self, model_id: int, point: str) -> int:
        index, model = self.placed[model_id]
        return self.base + index + int(model.points[point].offset)

    def get(self, model_id: int, point: str) -> Any:
        """The raw value, by the oracle."""
        index, model = self.placed[model_id]
        length = model.len
        model.set_mb(struct.pack(f">{length}H", *self.registers[index : index + length]))
        return model.points[point].value

    def put(self, model_id: int, **values: Any) -> None:
        """Raw values, by the oracle; "Prt[0].DCW" style names are written as Prt__0__DCW. None: not implemented."""
        index, model = self.placed[model_id]
        for name, value in values.items():
            group, *rest = name.split("__")
            point = model.groups[group][int(rest[0])].points[rest[1]] if rest else model.points[group]
            point.value = value
            data = point.get_mb()
            start = index + int(point.offset)
            self.registers[start : start + len(data) // 2] = struct.unpack(f">{len(data) // 2}H", data)

    def revert(self) -> None:
        """What the reversion timer does when it has run out."""
        if self.expires_s is not None and self.clock.now_s >= self.expires_s:
            self.expires_s = None
            self.put(704, WSetEna=self.get(704, "WSetEnaRvrt"), WSet=self.get(704, "WSetRvrt"), WSetRvrtRem=0)

    async def start(self, port: int = 0) -> None:
        # Room beyond the map, so that a test may lengthen it; the action answers for the map itself.
        values = SimData(self.base, values=[*self.registers, *[0] * 16], datatype=DataType.REGISTERS)
        device = SimDevice(id=self.unit_id, simdata=[values], action=self._action)
        self.server = ModbusTcpServer(device, address=("127.0.0.1", port), trace_pdu=self._route)
        await self.server.serve_forever(background=True)

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.shutdown()  # type: ignore[no-untyped-call]

    async def _action(
        self, function: int, start: int, address: int, count: int, held: list[int], written: Any
    ) -> ExcCodes | None:
        index = address - start
        if written is None:
            self.reads.append((address, count))
            if index + count > len(self.registers) or self.refuse_reads(address, count):
                return ExcCodes.ILLEGAL_ADDRESS
            if 704 in self.placed:
                self.revert()
                left_s = self.expires_s - self.clock.now_s if self.expires_s is not None else 0.0
                self.put(704, WSetRvrtRem=int(left_s) + (left_s > int(left_s)))
            held[index : index + count] = self.registers[index : index + count]
            return None
        self.writes.append((address, list(written)))
        if self.deaf:
            written[:] = self.registers[index : index + count]
            return None
        return self._take(index, list(written))

    def _take(self, index: int, written: list[int]) -> ExcCodes | None:
        before = list(self.registers)
        self.registers[index : index + len(written)] = written
        if 704 not in self.placed:
            return None
        if abs(self.get(704, "WSet")) > RATED_W:
            self.registers[:] = before
            return ExcCodes.ILLEGAL_VALUE
        first = self.base + index
        ena, tms = self.address(704, "WSetEna"), self.address(704, "WSetRvrtTms")
        if any(first <= point < first + len(written) for point in (ena, tms)):
            life_s, enabled = self.get(704, "WSetRvrtTms"), self.get(704, "WSetEna") == 1
            self.expires_s = self.clock.now_s + life_s if enabled and life_s else None
        return None

    def _route(self, sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        return _Unheard() if self.silent and not sending else pdu


class _Unheard(ModbusPDU):
    """A request that pymodbus takes for none, so that it is not answered."""

    def __bool__(self) -> bool:
        return False


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def serve(clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    """Starts devices; all end with the test. `serve(models)` takes values, `serve(registers=...)` a raw map."""
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def running(device: SunSpecServer) -> AsyncIterator[SunSpecServer]:
            await device.start()
            try:
                yield device
            finally:
                await device.stop()

        async def start(models: list[dict[str, Any]] | None = None, **changes: Any) -> SunSpecServer:
            registers, placed = encode(models if models is not None else hybrid_models())
            device = SunSpecServer(clock, changes.pop("registers", registers), placed, **changes)
            return await stack.enter_async_context(running(device))

        yield start


@pytest.fixture
async def opened(clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    """Opens devices by the product's own driver; all are closed with the test."""
    async with AsyncExitStack() as stack:

        async def start(server: SunSpecServer, **changes: Any) -> Any:
            device = await open_device(server.config(**changes), clock)
            stack.push_async_callback(device.close)
            return device

        yield start


class OracleBench:
    """The device as the device contract wants it (hil/contract.py): it follows setpoints at once, load is 2 kW."""

    rated_power_w, max_charge_w, max_discharge_w, storage_capacity_wh = 4800.0, 4000.0, 4500.0, 13_500.0
    _DEFAULT_W, _LOAD_W = 1200, 2000

    def __init__(self, server: SunSpecServer) -> None:
        self._server = server
        self.clock = server.clock

    @property
    def commanded_w(self) -> float | None:
        self._server.revert()
        return float(self._server.get(704, "WSet")) if self._server.get(704, "WSetEna") == 1 else None

    @property
    def writes(self) -> int:
        return len(self._server.writes)

    @property
    def truth(self) -> Truth:
        power_w = self._power_w
        return Truth(
            inverter_power_w=power_w,
            meter_power_w=power_w - self._LOAD_W,
            pv_power_w=900.0,
            frequency_hz=60.01,
            voltage_v=240.0,
            soc=0.625,
            meter_frequency_hz=60.01,
            meter_voltage_v=240.0,
        )

    @property
    def _power_w(self) -> float:
        commanded_w = self.commanded_w
        return commanded_w if commanded_w is not None else self._DEFAULT_W

    def config(self, *, timeout_s: float, read_only: bool) -> DeviceConfig:
        return self._server.config(timeout_s=timeout_s, read_only=read_only)

    def pass_time(self, seconds: float) -> None:
        self.clock.now_s += seconds
        power_w = self._power_w
        self._server.put(701, W=int(power_w))
        self._server.put(203, W=round((power_w - self._LOAD_W) / 10), PhV=2400)

    def keep_silent(self, silent: bool) -> None:
        self._server.silent = silent


@pytest.fixture
async def oracle_bench(serve: Any) -> OracleBench:
    return OracleBench(await serve())


@pytest.fixture
def models() -> list[dict[str, Any]]:
    """The hybrid's models, to be changed by the test."""
    return hybrid_models()


@pytest.fixture(name="encode")
def _encode() -> Callable[..., Any]:
    """Registers of a whole map from raw values, by the oracle, and where each model begins."""
    return encode


@pytest.fixture
def legacy_models() -> list[dict[str, Any]]:
    """An older hybrid: raw values, as pysunspec2 takes them."""
    return [
        {"ID": 1, "Mn": "Oracle Power", "Md": "Old 5", "SN": "O5-1", "Vr": "1", "DA": 1},
        {"ID": 103, "W": 1200, "PhVphA": 2400, "Hz": 6001, "W_SF": 0, "V_SF": -1, "Hz_SF": -2},
        {
            "ID": 120, "DERTyp": 82, "WRtg": 5000, "WRtg_SF": 0, "WHRtg": 1350, "WHRtg_SF": 1, "MaxChaRte": 4000,
            "MaxChaRte_SF": 0, "MaxDisChaRte": 4500, "MaxDisChaRte_SF": 0,
        },
        {"ID": 121, "WMax": 4800, "WMax_SF": 0},
        {"ID": 122, "PVConn": 7, "StorConn": 7, "ECPConn": 1},
        {
            "ID": 123, "Conn": 1, "WMaxLimPct": 10000, "WMaxLimPct_RvrtTms": 0, "WMaxLim_Ena": 0, "WMaxLimPct_SF": -2,
        },
        {
            "ID": 124, "WChaMax": 4000, "WChaMax_SF": 0, "StorCtl_Mod": 0, "ChaState": 6250, "ChaState_SF": -2,
            "OutWRte": 10000, "InWRte": 10000, "InOutWRte_RvrtTms": 0, "InOutWRte_SF": -2, "ChaGriSet": 0,
        },
        {
            "ID": 160, "N": 2, "DCW_SF": 0,
            "module": [{"IDStr": "String 1", "DCW": 900}, {"IDStr": "StDisCha 2", "DCW": 300}],
        },
        {"ID": 213, "W": -800.0, "PhV": 239.8, "Hz": 60.01},
    ]  # fmt: skip
