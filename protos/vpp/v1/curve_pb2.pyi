from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GroupCurve(_message.Message):
    __slots__ = ("group", "worker", "sequence", "at_ms", "sites", "tick_steps", "power_steps_mw")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    TICK_STEPS_FIELD_NUMBER: _ClassVar[int]
    POWER_STEPS_MW_FIELD_NUMBER: _ClassVar[int]
    group: str
    worker: str
    sequence: int
    at_ms: int
    sites: int
    tick_steps: _containers.RepeatedScalarFieldContainer[int]
    power_steps_mw: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, group: _Optional[str] = ..., worker: _Optional[str] = ..., sequence: _Optional[int] = ..., at_ms: _Optional[int] = ..., sites: _Optional[int] = ..., tick_steps: _Optional[_Iterable[int]] = ..., power_steps_mw: _Optional[_Iterable[int]] = ...) -> None: ...
