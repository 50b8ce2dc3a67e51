"""The SunSpec driver with a device whose registers pysunspec2 encodes passes the device contract."""

from typing import Any

import pytest

from hil.contract import Bench, DeviceContract


class TestSunSpecDriver(DeviceContract):
    @pytest.fixture
    def bench(self, oracle_bench: Any) -> Bench:
        bench: Bench = oracle_bench
        return bench
