"""How an agent is doing, read from its data folder, also while it runs."""

import contextlib
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig
from edge_agent.model.status import STATISTICS, journal_sentence, sentences
from edge_agent.runtime.folder import CONTROL_LOCK
from edge_agent.sync.journal import JournalError, read_status
from protos.settings import SettingsError

WRITES_WITHIN_S = 0.2  # a few cycles: control writes between two of them


def read(config: AgentConfig) -> dict[str, Any]:
    """Everything as numbers: site, journal, control (None before the first start). Raises SettingsError."""
    file = config.data_dir / STATISTICS
    try:
        control = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        journal = read_status(config.data_dir)
    except (OSError, ValueError, JournalError) as error:
        raise SettingsError(f"{config.data_dir}: the agent's status cannot be read ({error})") from error
    counters = {name: getattr(journal, name) for name in journal.__dataclass_fields__}
    return {"site": config.site, "journal": counters, "control": control}


def in_words(config: AgentConfig, clock: Clock) -> str:
    """The site now and why, a line each. Raises SettingsError."""
    known = read(config)
    lines = [*sentences(known["control"], clock.utc_ms()), ("Journal", journal_sentence(known["journal"]))]
    return "\n".join([f"site {config.site}", *(f"  {about:10} {words}" for about, words in lines)])


def ask_control(config: AgentConfig) -> bool:
    """Has a running control read what was left for it and write how it is now; whether one runs."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, SettingsError):
        if _runs(config.data_dir / CONTROL_LOCK):
            pid = int((config.data_dir / CONTROL_LOCK).read_text())
            # The number may be another process's by now: only what says that it is the agent is sent a signal.
            if b"agent" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGUSR1)
                time.sleep(WRITES_WITHIN_S)
                return True
    return False


def _runs(lock: Path) -> bool:
    handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
