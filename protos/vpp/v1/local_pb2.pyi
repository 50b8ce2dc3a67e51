from protos.vpp.v1 import broadcast_pb2 as _broadcast_pb2
from protos.vpp.v1 import intent_pb2 as _intent_pb2
from protos.vpp.v1 import report_pb2 as _report_pb2
from protos.vpp.v1 import site_pb2 as _site_pb2
from protos.vpp.v1 import supply_pb2 as _supply_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToSync(_message.Message):
    __slots__ = ("snapshot", "description", "event", "acknowledgement", "supply")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    SUPPLY_FIELD_NUMBER: _ClassVar[int]
    snapshot: SnapshotReport
    description: _site_pb2.SiteDescription
    event: _report_pb2.Event
    acknowledgement: _report_pb2.Acknowledgement
    supply: _supply_pb2.SupplyFunction
    def __init__(self, snapshot: _Optional[_Union[SnapshotReport, _Mapping]] = ..., description: _Optional[_Union[_site_pb2.SiteDescription, _Mapping]] = ..., event: _Optional[_Union[_report_pb2.Event, _Mapping]] = ..., acknowledgement: _Optional[_Union[_report_pb2.Acknowledgement, _Mapping]] = ..., supply: _Optional[_Union[_supply_pb2.SupplyFunction, _Mapping]] = ...) -> None: ...

class ToControl(_message.Message):
    __slots__ = ("intent", "link", "coordinator_time", "broadcast", "remote", "expectation")
    INTENT_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_TIME_FIELD_NUMBER: _ClassVar[int]
    BROADCAST_FIELD_NUMBER: _ClassVar[int]
    REMOTE_FIELD_NUMBER: _ClassVar[int]
    EXPECTATION_FIELD_NUMBER: _ClassVar[int]
    intent: _intent_pb2.Intent
    link: Link
    coordinator_time: CoordinatorTime
    broadcast: _broadcast_pb2.Broadcast
    remote: _site_pb2.RemoteConfiguration
    expectation: Expectation
    def __init__(self, intent: _Optional[_Union[_intent_pb2.Intent, _Mapping]] = ..., link: _Optional[_Union[Link, _Mapping]] = ..., coordinator_time: _Optional[_Union[CoordinatorTime, _Mapping]] = ..., broadcast: _Optional[_Union[_broadcast_pb2.Broadcast, _Mapping]] = ..., remote: _Optional[_Union[_site_pb2.RemoteConfiguration, _Mapping]] = ..., expectation: _Optional[_Union[Expectation, _Mapping]] = ...) -> None: ...

class Expectation(_message.Message):
    __slots__ = ("start_ms", "step_s", "load_w", "sun_w", "source", "note")
    START_MS_FIELD_NUMBER: _ClassVar[int]
    STEP_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_W_FIELD_NUMBER: _ClassVar[int]
    SUN_W_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    start_ms: int
    step_s: int
    load_w: _containers.RepeatedScalarFieldContainer[int]
    sun_w: _containers.RepeatedScalarFieldContainer[int]
    source: str
    note: str
    def __init__(self, start_ms: _Optional[int] = ..., step_s: _Optional[int] = ..., load_w: _Optional[_Iterable[int]] = ..., sun_w: _Optional[_Iterable[int]] = ..., source: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class SnapshotReport(_message.Message):
    __slots__ = ("at_ms", "grid_power_w", "inverter_power_w", "soc", "frequency_hz", "voltage_v", "pv_power_w", "ev_power_w", "flexible_load_power_w", "ev_session_wh", "ev_connected", "armed")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    GRID_POWER_W_FIELD_NUMBER: _ClassVar[int]
    INVERTER_POWER_W_FIELD_NUMBER: _ClassVar[int]
    SOC_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_HZ_FIELD_NUMBER: _ClassVar[int]
    VOLTAGE_V_FIELD_NUMBER: _ClassVar[int]
    PV_POWER_W_FIELD_NUMBER: _ClassVar[int]
    EV_POWER_W_FIELD_NUMBER: _ClassVar[int]
    FLEXIBLE_LOAD_POWER_W_FIELD_NUMBER: _ClassVar[int]
    EV_SESSION_WH_FIELD_NUMBER: _ClassVar[int]
    EV_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    ARMED_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    grid_power_w: float
    inverter_power_w: float
    soc: float
    frequency_hz: float
    voltage_v: float
    pv_power_w: float
    ev_power_w: float
    flexible_load_power_w: float
    ev_session_wh: float
    ev_connected: float
    armed: bool
    def __init__(self, at_ms: _Optional[int] = ..., grid_power_w: _Optional[float] = ..., inverter_power_w: _Optional[float] = ..., soc: _Optional[float] = ..., frequency_hz: _Optional[float] = ..., voltage_v: _Optional[float] = ..., pv_power_w: _Optional[float] = ..., ev_power_w: _Optional[float] = ..., flexible_load_power_w: _Optional[float] = ..., ev_session_wh: _Optional[float] = ..., ev_connected: _Optional[float] = ..., armed: _Optional[bool] = ...) -> None: ...

class CoordinatorTime(_message.Message):
    __slots__ = ("ahead_ms", "uncertainty_ms")
    AHEAD_MS_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_MS_FIELD_NUMBER: _ClassVar[int]
    ahead_ms: float
    uncertainty_ms: float
    def __init__(self, ahead_ms: _Optional[float] = ..., uncertainty_ms: _Optional[float] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("connected",)
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    connected: bool
    def __init__(self, connected: _Optional[bool] = ...) -> None: ...
