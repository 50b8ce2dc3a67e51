"""Every test of the ledger runs on SQLite and on a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.store.ledger import LEDGER_FILE, Ledger
from cloud.store.testing import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty ledger's place."""
    if request.param == "sqlite":
        return tmp_path / LEDGER_FILE
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def ledger(where: Path | str) -> Iterator[Ledger]:
    with Ledger(where) as ledger:
        yield ledger
