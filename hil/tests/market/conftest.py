from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.market.testing import MarketProcess, market_process


@pytest.fixture
def market(tmp_path: Path) -> Iterator[MarketProcess]:
    with market_process(tmp_path / "market") as running:
        yield running
