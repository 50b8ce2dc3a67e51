from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SupplyFunction(_message.Message):
    __slots__ = ("site", "seq", "at_ms", "valid_s", "lower_w", "upper_w", "energy_up_wh", "energy_down_wh", "ticks", "power_w")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    VALID_S_FIELD_NUMBER: _ClassVar[int]
    LOWER_W_FIELD_NUMBER: _ClassVar[int]
    UPPER_W_FIELD_NUMBER: _ClassVar[int]
    ENERGY_UP_WH_FIELD_NUMBER: _ClassVar[int]
    ENERGY_DOWN_WH_FIELD_NUMBER: _ClassVar[int]
    TICKS_FIELD_NUMBER: _ClassVar[int]
    POWER_W_FIELD_NUMBER: _ClassVar[int]
    site: int
    seq: int
    at_ms: int
    valid_s: int
    lower_w: int
    upper_w: int
    energy_up_wh: int
    energy_down_wh: int
    ticks: _containers.RepeatedScalarFieldContainer[int]
    power_w: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, site: _Optional[int] = ..., seq: _Optional[int] = ..., at_ms: _Optional[int] = ..., valid_s: _Optional[int] = ..., lower_w: _Optional[int] = ..., upper_w: _Optional[int] = ..., energy_up_wh: _Optional[int] = ..., energy_down_wh: _Optional[int] = ..., ticks: _Optional[_Iterable[int]] = ..., power_w: _Optional[_Iterable[int]] = ...) -> None: ...
