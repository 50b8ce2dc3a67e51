"""Each extra alone brings what its programs import: a new installation has nothing else."""

import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT = "murmuration-vpp"
ENTRANCES = {
    "cloud": ["cloud.cli", "cloud.coordinator", "cloud.commands.history", "cloud.roles.console"],
    "edge": ["edge_agent.cli", "edge_agent.runtime.agent", "edge_agent.sync.process", "edge_agent.commands.probe"],
}
BARE = """
import importlib, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
for module in sys.argv[2].split(","):
    importlib.import_module(module)
"""


def _brought(name: str, extras: frozenset[str], seen: dict[str, set[str]]) -> None:
    """Adds a distribution and all that it requires, by its canonical name and the extras asked for."""
    known = seen.setdefault(canonicalize_name(name), set())
    new = {"", *extras} - known
    known |= new
    for line in metadata.requires(name) or [] if new else []:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in new):
            _brought(requirement.name, frozenset(requirement.extras), seen)


@pytest.mark.parametrize("extra", ENTRANCES)
def test_an_installation_with_one_extra_has_all_that_it_imports(extra: str) -> None:
    seen: dict[str, set[str]] = {}
    _brought(PRODUCT, frozenset({extra}), seen)
    absent = [
        package
        for package, distributions in metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in distributions} & seen.keys()
    ]
    assert "matplotlib" in absent, "the rigs' packages come with neither"
    ran = subprocess.run(
        [sys.executable, "-c", BARE, ",".join(absent), ",".join(ENTRANCES[extra])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
