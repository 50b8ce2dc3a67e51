from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Steer(_message.Message):
    __slots__ = ("activation", "group", "sequence", "at_ms", "end_ms", "cycle_ms", "step", "finish", "fallback", "nodes")
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    CYCLE_MS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    activation: str
    group: str
    sequence: int
    at_ms: int
    end_ms: int
    cycle_ms: int
    step: bool
    finish: bool
    fallback: float
    nodes: _containers.RepeatedCompositeFieldContainer[SteerNode]
    def __init__(self, activation: _Optional[str] = ..., group: _Optional[str] = ..., sequence: _Optional[int] = ..., at_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., cycle_ms: _Optional[int] = ..., step: _Optional[bool] = ..., finish: _Optional[bool] = ..., fallback: _Optional[float] = ..., nodes: _Optional[_Iterable[_Union[SteerNode, _Mapping]]] = ...) -> None: ...

class SteerNode(_message.Message):
    __slots__ = ("group", "heard", "exact_low", "exact_high")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    EXACT_LOW_FIELD_NUMBER: _ClassVar[int]
    EXACT_HIGH_FIELD_NUMBER: _ClassVar[int]
    group: str
    heard: float
    exact_low: int
    exact_high: int
    def __init__(self, group: _Optional[str] = ..., heard: _Optional[float] = ..., exact_low: _Optional[int] = ..., exact_high: _Optional[int] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("worker", "activation", "sequence", "at_ms", "part", "parts", "curves", "following", "deviating", "silent", "relied_on", "counted", "error_w", "moving_w", "expected_w", "measured_w", "missing")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    CURVES_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    DEVIATING_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    RELIED_ON_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    ERROR_W_FIELD_NUMBER: _ClassVar[int]
    MOVING_W_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_W_FIELD_NUMBER: _ClassVar[int]
    MEASURED_W_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    worker: str
    activation: str
    sequence: int
    at_ms: int
    part: int
    parts: int
    curves: _containers.RepeatedCompositeFieldContainer[GroupCurve]
    following: int
    deviating: int
    silent: int
    relied_on: int
    counted: int
    error_w: float
    moving_w: _containers.RepeatedScalarFieldContainer[float]
    expected_w: float
    measured_w: float
    missing: int
    def __init__(self, worker: _Optional[str] = ..., activation: _Optional[str] = ..., sequence: _Optional[int] = ..., at_ms: _Optional[int] = ..., part: _Optional[int] = ..., parts: _Optional[int] = ..., curves: _Optional[_Iterable[_Union[GroupCurve, _Mapping]]] = ..., following: _Optional[int] = ..., deviating: _Optional[int] = ..., silent: _Optional[int] = ..., relied_on: _Optional[int] = ..., counted: _Optional[int] = ..., error_w: _Optional[float] = ..., moving_w: _Optional[_Iterable[float]] = ..., expected_w: _Optional[float] = ..., measured_w: _Optional[float] = ..., missing: _Optional[int] = ...) -> None: ...

class GroupCurve(_message.Message):
    __slots__ = ("node", "sites", "tick_steps", "power_steps_mw", "exact_low", "exact_high", "estimate_w", "house_w")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    TICK_STEPS_FIELD_NUMBER: _ClassVar[int]
    POWER_STEPS_MW_FIELD_NUMBER: _ClassVar[int]
    EXACT_LOW_FIELD_NUMBER: _ClassVar[int]
    EXACT_HIGH_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_W_FIELD_NUMBER: _ClassVar[int]
    HOUSE_W_FIELD_NUMBER: _ClassVar[int]
    node: int
    sites: int
    tick_steps: _containers.RepeatedScalarFieldContainer[int]
    power_steps_mw: _containers.RepeatedScalarFieldContainer[int]
    exact_low: float
    exact_high: float
    estimate_w: float
    house_w: float
    def __init__(self, node: _Optional[int] = ..., sites: _Optional[int] = ..., tick_steps: _Optional[_Iterable[int]] = ..., power_steps_mw: _Optional[_Iterable[int]] = ..., exact_low: _Optional[float] = ..., exact_high: _Optional[float] = ..., estimate_w: _Optional[float] = ..., house_w: _Optional[float] = ...) -> None: ...
