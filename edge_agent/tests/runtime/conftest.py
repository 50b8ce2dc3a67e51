"""An agent on a fake home, closed after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.runtime.testing import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    built = Bench(tmp_path)
    yield built
    built.close()
