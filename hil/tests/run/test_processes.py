"""Processes of a run: an interrupt is never lost, wherever the signal finds the interpreter."""

import os
import signal
import weakref
from pathlib import Path

import pytest

from hil.run.processes import running, wait_until


class _Owned:
    """Something with a finalizer."""


def _interrupt_in_a_finalizer() -> None:
    """The signal arrives where an exception would be printed and forgotten."""
    owned = _Owned()
    weakref.finalize(owned, os.kill, os.getpid(), signal.SIGINT)
    del owned


def test_an_interrupt_inside_a_finalizer_ends_the_next_wait(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with running(tmp_path) as processes:
        _interrupt_in_a_finalizer()
        with pytest.raises(KeyboardInterrupt):
            wait_until(lambda: False, "nothing", within_s=30, processes=processes)
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupts_do_not_break_off_the_ending(tmp_path: Path) -> None:
    with running(tmp_path) as processes:
        started = processes.start("rig", ["vpp-hil", "rig", "--homes", "1", "--data", str(tmp_path / "rig")])
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            processes.check()
    assert started.returncode is not None
    assert processes.names() == []
