"""What a coordinator may set at a site from afar, as TOML: `vpp-cloud site configure` writes it, the agent obeys it.

    [control]
    export_limit_w = 3000
    [[devices]]
    name = "hybrid"
    host = "192.168.1.21"

Limits can only be tightened beyond the owner's own file, and addresses only be changed where that file allows it: the
agent decides, for it alone has the file. Everything else (site, data_dir, coordinator, guard, keys) is the owner's.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, structs

MOST_CHARACTERS = 16_384

_Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_Power = Annotated[float, Meta(ge=0.0, le=1e7)]
_Ramp = Annotated[float, Meta(ge=1.0, le=1e7)]
_Writes = Annotated[float, Meta(ge=24.0, le=1e7)]
_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Unit = Annotated[int, Meta(ge=0, le=255)]
_TimeOut = Annotated[float, Meta(ge=0.02, le=5.0)]


class RemoteControl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys as in the agent's [control]. None: as in the owner's file."""

    default: Annotated[
        Literal["self-consumption", "idle", "release"] | None, Meta(description='"self-consumption", "idle", "release"')
    ] = None
    soc_min: Annotated[_Share | None, Meta(description="a share of the storage's capacity, 0 to 1")] = None
    soc_max: Annotated[_Share | None, Meta(description="a share of the storage's capacity, 0 to 1")] = None
    backup_reserve: Annotated[_Share | None, Meta(description="a share of the storage's capacity, 0 to 1")] = None
    export_limit_w: Annotated[_Power | None, Meta(description="watts at the grid meter, 0 to 10000000")] = None
    import_limit_w: Annotated[_Power | None, Meta(description="watts at the grid meter, 0 to 10000000")] = None
    ramp_w_per_s: Annotated[_Ramp | None, Meta(description="watts a second, 1 to 10000000")] = None
    writes_per_day: Annotated[_Writes | None, Meta(description="setpoints a day, 24 to 10000000")] = None


class RemoteDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the site's devices, by name. None: as in the owner's file."""

    name: Annotated[str, Meta(min_length=1, max_length=63, description="the device's name in the agent's file")]
    host: Annotated[_Name | None, Meta(description='address of the device, e.g. host = "192.168.1.20"')] = None
    port: Annotated[_Port | None, Meta(description="TCP port, 1 to 65535")] = None
    unit_id: Annotated[_Unit | None, Meta(description="Modbus unit, 0 to 255")] = None
    timeout_s: Annotated[_TimeOut | None, Meta(description="seconds, 0.02 to 5")] = None


class RemoteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole text. Empty: as the owner's file says."""

    control: Annotated[RemoteControl, Meta(description="a table [control]")] = RemoteControl()
    devices: Annotated[tuple[RemoteDevice, ...], Meta(max_length=64, description="tables [[devices]] with name")] = ()


def given(part: RemoteControl | RemoteDevice) -> dict[str, Any]:
    """What a part sets, by key; a device's name is no setting."""
    return {key: value for key, value in structs.asdict(part).items() if value is not None and key != "name"}
