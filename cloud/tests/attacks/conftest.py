from pathlib import Path

import pytest

from cloud.testing import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)
