from protos.vpp.v1 import intent_pb2 as _intent_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Broadcast(_message.Message):
    __slots__ = ("group", "sequence", "issued_ms", "expires_ms", "price", "regulation", "stop")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    REGULATION_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    group: str
    sequence: int
    issued_ms: int
    expires_ms: int
    price: Price
    regulation: Regulation
    stop: _intent_pb2.StopOrder
    def __init__(self, group: _Optional[str] = ..., sequence: _Optional[int] = ..., issued_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., price: _Optional[_Union[Price, _Mapping]] = ..., regulation: _Optional[_Union[Regulation, _Mapping]] = ..., stop: _Optional[_Union[_intent_pb2.StopOrder, _Mapping]] = ...) -> None: ...

class SignedBroadcast(_message.Message):
    __slots__ = ("broadcast", "signature", "key_id")
    BROADCAST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    broadcast: bytes
    signature: bytes
    key_id: bytes
    def __init__(self, broadcast: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class Price(_message.Message):
    __slots__ = ("ticks", "step_share_e6", "tick_fraction_e6")
    TICKS_FIELD_NUMBER: _ClassVar[int]
    STEP_SHARE_E6_FIELD_NUMBER: _ClassVar[int]
    TICK_FRACTION_E6_FIELD_NUMBER: _ClassVar[int]
    ticks: int
    step_share_e6: int
    tick_fraction_e6: int
    def __init__(self, ticks: _Optional[int] = ..., step_share_e6: _Optional[int] = ..., tick_fraction_e6: _Optional[int] = ...) -> None: ...

class Regulation(_message.Message):
    __slots__ = ("signal_e6",)
    SIGNAL_E6_FIELD_NUMBER: _ClassVar[int]
    signal_e6: int
    def __init__(self, signal_e6: _Optional[int] = ...) -> None: ...
