"""Nothing that the agent can drive, and no simulated device, is left out of the device contract."""

import ast
import importlib
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

import hil.rigs
from edge_agent.drivers import profile
from edge_agent.drivers.profile import Profile
from edge_agent.drivers.profile_loading import load, shipped
from edge_agent.drivers.sunspec.definitions import load_model
from edge_agent.drivers.sunspec.discovery import DeviceMap
from edge_agent.drivers.sunspec.points import choose_points
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import Device
from hil.contract import Contract
from hil.contract_flexible import FlexibleContract

ROOT = Path(__file__).parents[3]
SUITES = sorted(p for tests in ROOT.glob("*/tests") for p in tests.rglob("test_*contract.py"))
SUITES += sorted((ROOT / "firmware_tests").glob("test_contract.py"))
# Modules of hil.rigs that serve no device: what a device is made of, what carries it, and what is made of devices.
PARTS = {
    "clock", "device_registers", "flexible_home", "grid_functions", "history", "metered_home", "modbus_server",
    "recorded", "recorder", "recording", "registers", "rig", "scenario", "serve", "serve_device", "serve_proxy",
    "sunspec_map", "testing",
}  # fmt: skip

CAPABILITIES = {*profile.PARTS, "control"}


def covered() -> frozenset[str]:
    """What the classes of all suites say that they prove."""
    return frozenset[str]().union(*(suite.covers for path in SUITES for suite in suites(path)))


def suites(path: Path) -> Iterator[type[Contract | FlexibleContract]]:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for thing in vars(module).values():
        if (
            isinstance(thing, type)
            and issubclass(thing, Contract | FlexibleContract)
            and thing.__module__ == module.__name__
        ):
            yield thing


class Asked:
    """A device's map that has nothing, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.models: set[int] = set()

    def first(self, *models: int) -> None:
        self.models.update(models)


def read_models() -> set[int]:
    """Every SunSpec model that the driver reads measurements, ratings or names from."""
    asked = Asked()
    choose_points(cast("DeviceMap", asked))
    return asked.models


def firmware_programs() -> tuple[str, ...]:
    """What a node's settings can name."""
    source = (ROOT / "edge_agent" / "firmware" / "settings.py").read_text()
    choices = next(line for line in source.splitlines() if line.startswith("_CHOICES = "))
    programs: tuple[str, ...] = ast.literal_eval(choices.removeprefix("_CHOICES = "))["program"]
    return programs


def test_it_knows_what_the_driver_reads() -> None:
    assert {1, 101, 113, 701, 702, 713, 714, 120, 124, 160, 802, 201, 214, 64910} <= read_models()
    assert all(load_model(model) for model in read_models())


@pytest.mark.parametrize(
    ("what", "needed"),
    [
        ("SunSpec models", {f"model {model}" for model in (*read_models(), 704, 123)}),
        ("profiles", {f"{name} {part}" for name in shipped() for part in CAPABILITIES if getattr(load(name), part)}),
        ("drivers", {f"driver {name}" for name in typing.get_args(typing.get_type_hints(DeviceConfig)["driver"])}),
        ("firmware programs", {f"firmware {name}" for name in firmware_programs()}),
        ("simulated devices", {f"hil.rigs.{m.name}" for m in pkgutil.iter_modules(hil.rigs.__path__)}),
    ],
)
def test_the_suite_leaves_none_out(what: str, needed: set[str]) -> None:
    missing = needed - covered() - {f"hil.rigs.{part}" for part in PARTS}
    assert not missing, f"{what} that no contract test covers: {', '.join(sorted(missing))}"


def test_parts_are_there() -> None:
    assert {m.name for m in pkgutil.iter_modules(hil.rigs.__path__)} >= PARTS


def test_every_capability_has_a_contract() -> None:
    """A new one in a profile, or of a device, needs a contract of its own first."""
    about_it = {"title", "sources", "caveats", "link", "identification", "nameplate", "writable"}
    assert set(Profile.__struct_fields__) == CAPABILITIES | about_it
    capabilities = {"inverter", "meter", "switch", "charger", "load", "control", "switch_control", "microcontroller"}
    told = {"name", "nameplate", "findings"}
    assert {name for name in vars(Device) if not name.startswith("_")} == capabilities | told | {"close"}
