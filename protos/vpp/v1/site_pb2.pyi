from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DownloadRequest(_message.Message):
    __slots__ = ("sha256", "offset")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    offset: int
    def __init__(self, sha256: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class SignedManifest(_message.Message):
    __slots__ = ("manifest", "signature", "key_id")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    signature: bytes
    key_id: bytes
    def __init__(self, manifest: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class ConfigureNow(_message.Message):
    __slots__ = ("site", "issued_ms", "expires_ms")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    site: str
    issued_ms: int
    expires_ms: int
    def __init__(self, site: _Optional[str] = ..., issued_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class SignedConfigureNow(_message.Message):
    __slots__ = ("notice", "signature", "key_id")
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    notice: bytes
    signature: bytes
    key_id: bytes
    def __init__(self, notice: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class UpdateStatus(_message.Message):
    __slots__ = ("kind", "name", "version", "state", "reason")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[UpdateStatus.State]
        STATE_FETCHING: _ClassVar[UpdateStatus.State]
        STATE_STAGED: _ClassVar[UpdateStatus.State]
        STATE_SWITCHED: _ClassVar[UpdateStatus.State]
        STATE_HEALTHY: _ClassVar[UpdateStatus.State]
        STATE_ROLLED_BACK: _ClassVar[UpdateStatus.State]
        STATE_REFUSED: _ClassVar[UpdateStatus.State]
    STATE_UNSPECIFIED: UpdateStatus.State
    STATE_FETCHING: UpdateStatus.State
    STATE_STAGED: UpdateStatus.State
    STATE_SWITCHED: UpdateStatus.State
    STATE_HEALTHY: UpdateStatus.State
    STATE_ROLLED_BACK: UpdateStatus.State
    STATE_REFUSED: UpdateStatus.State
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    version: str
    state: UpdateStatus.State
    reason: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[_Union[UpdateStatus.State, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("claim_token", "certificate_request", "nats_public_key", "agent_version")
    CLAIM_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    NATS_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    claim_token: str
    certificate_request: bytes
    nats_public_key: str
    agent_version: str
    def __init__(self, claim_token: _Optional[str] = ..., certificate_request: _Optional[bytes] = ..., nats_public_key: _Optional[str] = ..., agent_version: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("certificate_request", "nats_public_key")
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    NATS_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    certificate_request: bytes
    nats_public_key: str
    def __init__(self, certificate_request: _Optional[bytes] = ..., nats_public_key: _Optional[str] = ...) -> None: ...

class Credentials(_message.Message):
    __slots__ = ("site", "slot", "partition_token", "certificate", "ca_certificates", "nats_jwt", "nats_urls", "site_service", "command_keys", "first_seq", "expires_ms", "issued_ms", "certificate_expires_ms", "certificate_due", "command_key_rotations")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PARTITION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    NATS_JWT_FIELD_NUMBER: _ClassVar[int]
    NATS_URLS_FIELD_NUMBER: _ClassVar[int]
    SITE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_KEYS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_DUE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_KEY_ROTATIONS_FIELD_NUMBER: _ClassVar[int]
    site: str
    slot: int
    partition_token: str
    certificate: bytes
    ca_certificates: bytes
    nats_jwt: str
    nats_urls: _containers.RepeatedScalarFieldContainer[str]
    site_service: str
    command_keys: _containers.RepeatedScalarFieldContainer[bytes]
    first_seq: int
    expires_ms: int
    issued_ms: int
    certificate_expires_ms: int
    certificate_due: bool
    command_key_rotations: _containers.RepeatedCompositeFieldContainer[CommandKeyRotation]
    def __init__(self, site: _Optional[str] = ..., slot: _Optional[int] = ..., partition_token: _Optional[str] = ..., certificate: _Optional[bytes] = ..., ca_certificates: _Optional[bytes] = ..., nats_jwt: _Optional[str] = ..., nats_urls: _Optional[_Iterable[str]] = ..., site_service: _Optional[str] = ..., command_keys: _Optional[_Iterable[bytes]] = ..., first_seq: _Optional[int] = ..., expires_ms: _Optional[int] = ..., issued_ms: _Optional[int] = ..., certificate_expires_ms: _Optional[int] = ..., certificate_due: _Optional[bool] = ..., command_key_rotations: _Optional[_Iterable[_Union[CommandKeyRotation, _Mapping]]] = ...) -> None: ...

class CommandKeyRotation(_message.Message):
    __slots__ = ("public_key", "previous_key_id", "signature")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    previous_key_id: bytes
    signature: bytes
    def __init__(self, public_key: _Optional[bytes] = ..., previous_key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SiteDescription(_message.Message):
    __slots__ = ("devices", "agent_version", "rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh", "soc_min", "soc_max", "updates")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    RATED_POWER_W_FIELD_NUMBER: _ClassVar[int]
    MAX_CHARGE_W_FIELD_NUMBER: _ClassVar[int]
    MAX_DISCHARGE_W_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CAPACITY_WH_FIELD_NUMBER: _ClassVar[int]
    SOC_MIN_FIELD_NUMBER: _ClassVar[int]
    SOC_MAX_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    agent_version: str
    rated_power_w: float
    max_charge_w: float
    max_discharge_w: float
    storage_capacity_wh: float
    soc_min: float
    soc_max: float
    updates: _containers.RepeatedCompositeFieldContainer[UpdateStatus]
    def __init__(self, devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., agent_version: _Optional[str] = ..., rated_power_w: _Optional[float] = ..., max_charge_w: _Optional[float] = ..., max_discharge_w: _Optional[float] = ..., storage_capacity_wh: _Optional[float] = ..., soc_min: _Optional[float] = ..., soc_max: _Optional[float] = ..., updates: _Optional[_Iterable[_Union[UpdateStatus, _Mapping]]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("name", "manufacturer", "model", "serial", "sunspec_models", "rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANUFACTURER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    SUNSPEC_MODELS_FIELD_NUMBER: _ClassVar[int]
    RATED_POWER_W_FIELD_NUMBER: _ClassVar[int]
    MAX_CHARGE_W_FIELD_NUMBER: _ClassVar[int]
    MAX_DISCHARGE_W_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CAPACITY_WH_FIELD_NUMBER: _ClassVar[int]
    name: str
    manufacturer: str
    model: str
    serial: str
    sunspec_models: _containers.RepeatedScalarFieldContainer[int]
    rated_power_w: float
    max_charge_w: float
    max_discharge_w: float
    storage_capacity_wh: float
    def __init__(self, name: _Optional[str] = ..., manufacturer: _Optional[str] = ..., model: _Optional[str] = ..., serial: _Optional[str] = ..., sunspec_models: _Optional[_Iterable[int]] = ..., rated_power_w: _Optional[float] = ..., max_charge_w: _Optional[float] = ..., max_discharge_w: _Optional[float] = ..., storage_capacity_wh: _Optional[float] = ...) -> None: ...

class SiteConfiguration(_message.Message):
    __slots__ = ("telemetry_interval_ms", "groups", "updates", "coordinator_time_ms", "remote")
    TELEMETRY_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    REMOTE_FIELD_NUMBER: _ClassVar[int]
    telemetry_interval_ms: int
    groups: _containers.RepeatedScalarFieldContainer[str]
    updates: _containers.RepeatedCompositeFieldContainer[SignedManifest]
    coordinator_time_ms: int
    remote: RemoteConfiguration
    def __init__(self, telemetry_interval_ms: _Optional[int] = ..., groups: _Optional[_Iterable[str]] = ..., updates: _Optional[_Iterable[_Union[SignedManifest, _Mapping]]] = ..., coordinator_time_ms: _Optional[int] = ..., remote: _Optional[_Union[RemoteConfiguration, _Mapping]] = ...) -> None: ...

class RemoteConfiguration(_message.Message):
    __slots__ = ("revision", "toml")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TOML_FIELD_NUMBER: _ClassVar[int]
    revision: int
    toml: str
    def __init__(self, revision: _Optional[int] = ..., toml: _Optional[str] = ...) -> None: ...
