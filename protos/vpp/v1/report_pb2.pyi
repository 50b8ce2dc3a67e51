from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("site", "event_id", "at_ms", "severity", "code", "text", "thinned")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEVERITY_UNSPECIFIED: _ClassVar[Event.Severity]
        SEVERITY_INFO: _ClassVar[Event.Severity]
        SEVERITY_WARNING: _ClassVar[Event.Severity]
        SEVERITY_ALARM: _ClassVar[Event.Severity]
    SEVERITY_UNSPECIFIED: Event.Severity
    SEVERITY_INFO: Event.Severity
    SEVERITY_WARNING: Event.Severity
    SEVERITY_ALARM: Event.Severity
    SITE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    THINNED_FIELD_NUMBER: _ClassVar[int]
    site: str
    event_id: str
    at_ms: int
    severity: Event.Severity
    code: str
    text: str
    thinned: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, site: _Optional[str] = ..., event_id: _Optional[str] = ..., at_ms: _Optional[int] = ..., severity: _Optional[_Union[Event.Severity, str]] = ..., code: _Optional[str] = ..., text: _Optional[str] = ..., thinned: _Optional[_Iterable[int]] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("site", "kind", "sequence", "state", "reason", "at_ms", "event_id")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Acknowledgement.State]
        STATE_ACCEPTED: _ClassVar[Acknowledgement.State]
        STATE_REFUSED: _ClassVar[Acknowledgement.State]
        STATE_ACTIVE: _ClassVar[Acknowledgement.State]
        STATE_EXPIRED: _ClassVar[Acknowledgement.State]
        STATE_RELEASED: _ClassVar[Acknowledgement.State]
        STATE_RECEIVED: _ClassVar[Acknowledgement.State]
    STATE_UNSPECIFIED: Acknowledgement.State
    STATE_ACCEPTED: Acknowledgement.State
    STATE_REFUSED: Acknowledgement.State
    STATE_ACTIVE: Acknowledgement.State
    STATE_EXPIRED: Acknowledgement.State
    STATE_RELEASED: Acknowledgement.State
    STATE_RECEIVED: Acknowledgement.State
    SITE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    site: str
    kind: str
    sequence: int
    state: Acknowledgement.State
    reason: str
    at_ms: int
    event_id: str
    def __init__(self, site: _Optional[str] = ..., kind: _Optional[str] = ..., sequence: _Optional[int] = ..., state: _Optional[_Union[Acknowledgement.State, str]] = ..., reason: _Optional[str] = ..., at_ms: _Optional[int] = ..., event_id: _Optional[str] = ...) -> None: ...
