"""The agent's configuration as values: frozen, and unknown keys are refused when a file is read into them."""

from typing import Annotated, Literal

import msgspec


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[devices]]` table."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    driver: Literal["sunspec"]
    host: Annotated[str, msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 502
    unit_id: Annotated[int, msgspec.Meta(ge=0, le=255)] = 1
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.25  # of one Modbus transaction
    read_only: bool = False  # the writable half is never constructed
