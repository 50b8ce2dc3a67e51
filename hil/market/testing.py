"""The market as a real process on a free port, for tests."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hil.market.serve import READY_FILE

DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class MarketProcess:
    url: str
    process: subprocess.Popen[bytes]
    started: datetime  # its quarter hour stands for the scenario's recorded start

    def stop(self) -> int:
        """Asks it to end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)


@contextmanager
def market_process(folder: Path) -> Iterator[MarketProcess]:
    """A market that serves, and is gone afterwards. Raises RuntimeError where it does not come up."""
    started = datetime.now(UTC)
    command = [sys.executable, "-m", "hil.cli", "market", "--data", str(folder)]
    process = subprocess.Popen([*command, "--recorded-start-utc", started.isoformat()])
    try:
        running = MarketProcess(_ready(folder / READY_FILE, process), process, started)
        yield running
        running.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _ready(file: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the market did not come up (exit code {process.returncode})")
        time.sleep(0.05)
    return str(json.loads(file.read_text())["url"])
