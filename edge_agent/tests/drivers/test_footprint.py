"""What the control process must not carry."""

import subprocess
import sys


def test_drivers_load_neither_numpy_nor_another_sunspec_implementation() -> None:
    script = "import edge_agent.drivers, edge_agent.safety.gate, sys; print('\\n'.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "pymodbus.client" in loaded
    assert not loaded & {"numpy", "sunspec2.device", "sunspec2.mb", "sunspec2.modbus", "pydantic"}
