"""What the two sides of an update leave for each other in the data folder: sync stages, the launcher switches.

updates/staged.json     sync's word: this agent is complete and verified
updates/slots.json      the launcher's word: what runs, what ran well last, what came of each try
updates/slots/<digest>/ one agent version, unpacked

updates/model/<name>/models.json  what sync itself runs, tries, and gave up, of a model
updates/<kind>/<name>/<digest>/   the files of a firmware or a model, with `current` pointing at a firmware's newest
"""

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

FOLDER = "updates"
STAGED_FILE = "staged.json"
SLOTS_FILE = "slots.json"
SLOTS_FOLDER = "slots"
MODELS_FILE = "models.json"
AGENT = "vpp-agent"  # the name in the manifest of an agent

Content = TypeVar("Content")


class Staged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent that is ready to be switched to."""

    version: str
    digest: str  # SHA-256 of the manifest, hex; the slot's name


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of a version."""

    state: Literal["switched", "healthy", "rolled-back"]
    reason: str = ""


class Delivered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a firmware has come at the microcontrollers that it is for."""

    name: str  # of the program
    version: str
    state: Literal["staged", "switched", "healthy", "rolled-back", "refused"]
    reason: str = ""


class Slots(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions the launcher knows; an empty digest is the agent that was installed."""

    good: str = ""  # runs well: what is gone back to
    trial: str = ""  # on trial now
    outcomes: dict[str, Outcome] = {}


class Models(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The versions of one model; none is good: the one that came with the agent is used."""

    good: Staged | None = None
    trial: Staged | None = None
    outcomes: dict[str, Outcome] = {}  # by digest


def read(path: Path, kind: type[Content]) -> Content | None:
    """What is in the file; None where there is none. Raises ValueError where it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
