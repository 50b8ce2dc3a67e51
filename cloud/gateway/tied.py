"""Runs a program that must not outlive its parent: `python tied.py PARENT_PID PROGRAM [ARGUMENT...]`.

The kernel kills it when the parent dies, however that happens. A launcher of its own, because the same done between
fork and exec of a threaded process (subprocess' preexec_fn) may deadlock. The tie is to the parent's *thread* that
started it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent is gone already")
    os.execv(program, sys.argv[2:])


if __name__ == "__main__":
    main()
