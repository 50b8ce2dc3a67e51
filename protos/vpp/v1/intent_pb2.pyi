from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Intent(_message.Message):
    __slots__ = ("site", "sequence", "issued_ms", "valid_from_ms", "expires_ms", "schedule", "arm", "release", "envelope", "setpoint", "price", "stop")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    SETPOINT_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    site: str
    sequence: int
    issued_ms: int
    valid_from_ms: int
    expires_ms: int
    schedule: Schedule
    arm: ArmService
    release: Release
    envelope: Envelope
    setpoint: PowerSetpoint
    price: FollowPrice
    stop: StopOrder
    def __init__(self, site: _Optional[str] = ..., sequence: _Optional[int] = ..., issued_ms: _Optional[int] = ..., valid_from_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., schedule: _Optional[_Union[Schedule, _Mapping]] = ..., arm: _Optional[_Union[ArmService, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., envelope: _Optional[_Union[Envelope, _Mapping]] = ..., setpoint: _Optional[_Union[PowerSetpoint, _Mapping]] = ..., price: _Optional[_Union[FollowPrice, _Mapping]] = ..., stop: _Optional[_Union[StopOrder, _Mapping]] = ...) -> None: ...

class SignedIntent(_message.Message):
    __slots__ = ("intent", "signature", "key_id")
    INTENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    intent: bytes
    signature: bytes
    key_id: bytes
    def __init__(self, intent: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("start_ms", "mtu_s", "inverter_power_w", "plan_id", "stored_value_ticks")
    START_MS_FIELD_NUMBER: _ClassVar[int]
    MTU_S_FIELD_NUMBER: _ClassVar[int]
    INVERTER_POWER_W_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    STORED_VALUE_TICKS_FIELD_NUMBER: _ClassVar[int]
    start_ms: int
    mtu_s: int
    inverter_power_w: _containers.RepeatedScalarFieldContainer[int]
    plan_id: str
    stored_value_ticks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, start_ms: _Optional[int] = ..., mtu_s: _Optional[int] = ..., inverter_power_w: _Optional[_Iterable[int]] = ..., plan_id: _Optional[str] = ..., stored_value_ticks: _Optional[_Iterable[int]] = ...) -> None: ...

class ArmService(_message.Message):
    __slots__ = ("award_id", "service_id", "service_version", "contracted_w", "service_toml", "group")
    AWARD_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACTED_W_FIELD_NUMBER: _ClassVar[int]
    SERVICE_TOML_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    award_id: str
    service_id: str
    service_version: int
    contracted_w: int
    service_toml: str
    group: str
    def __init__(self, award_id: _Optional[str] = ..., service_id: _Optional[str] = ..., service_version: _Optional[int] = ..., contracted_w: _Optional[int] = ..., service_toml: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("award_id",)
    AWARD_ID_FIELD_NUMBER: _ClassVar[int]
    award_id: str
    def __init__(self, award_id: _Optional[str] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("envelope_id", "start_ms", "mtu_s", "import_limit_w", "export_limit_w")
    ENVELOPE_ID_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    MTU_S_FIELD_NUMBER: _ClassVar[int]
    IMPORT_LIMIT_W_FIELD_NUMBER: _ClassVar[int]
    EXPORT_LIMIT_W_FIELD_NUMBER: _ClassVar[int]
    envelope_id: str
    start_ms: int
    mtu_s: int
    import_limit_w: _containers.RepeatedScalarFieldContainer[int]
    export_limit_w: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, envelope_id: _Optional[str] = ..., start_ms: _Optional[int] = ..., mtu_s: _Optional[int] = ..., import_limit_w: _Optional[_Iterable[int]] = ..., export_limit_w: _Optional[_Iterable[int]] = ...) -> None: ...

class PowerSetpoint(_message.Message):
    __slots__ = ("inverter_power_w", "reason")
    INVERTER_POWER_W_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    inverter_power_w: int
    reason: str
    def __init__(self, inverter_power_w: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class FollowPrice(_message.Message):
    __slots__ = ("group", "fallback_ticks")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_TICKS_FIELD_NUMBER: _ClassVar[int]
    group: str
    fallback_ticks: int
    def __init__(self, group: _Optional[str] = ..., fallback_ticks: _Optional[int] = ...) -> None: ...

class StopOrder(_message.Message):
    __slots__ = ("stop", "reason")
    STOP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    stop: bool
    reason: str
    def __init__(self, stop: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...
