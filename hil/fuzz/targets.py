"""Every target by its name."""

from typing import Final

from hil.fuzz import cloud, devices, edge
from hil.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target for target in (*edge.TARGETS, *cloud.TARGETS, *devices.TARGETS)
}
