import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.store.testing import PostgresMissing, PostgresServer, postgres_server
from cloud.testing import Plant


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Debian's Chromium. The only thing a test may be skipped for, and under CI=true it may not."""
    path = shutil.which("chromium")
    if path is None:
        text = "chromium is not on PATH; enable this test with: sudo apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except PostgresMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)
