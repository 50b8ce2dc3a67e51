"""`python -m edge_agent.forecast`: runs a model once, for the sync process, and ends.

A process of its own, because a model is a stranger's program: what it takes of time and memory is bounded by the
kernel, what it breaks is this process, and the memory of onnxruntime is given back. A Request comes on standard input,
an Answer goes to standard output, both JSON.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.forecast.exchange import Answer, Request

CPU_S: Final = 30
DATA_BYTES: Final = 400 << 20  # onnxruntime and numpy need about 120 MB of it


def main() -> int:
    _guard()
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer = _answer(request)
    except MemoryError:
        answer = Answer(fault=f"it needs more than {DATA_BYTES >> 20} MB of memory")
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _guard() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 15)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"


def _answer(request: Request) -> Answer:
    from edge_agent.forecast.judging import expect, past_errors, try_sample  # numpy, only now that it is bounded
    from edge_agent.forecast.model import Model, ModelFault

    try:
        model = Model(Path(request.model).read_bytes())
        if request.check:
            try_sample(model)
        load_w, sun_w = expect(model, request)
        error_w, persistence_w = past_errors(model, request)
    except OSError as error:
        return Answer(fault=f"it cannot be read: {error.strerror}")
    except ModelFault as error:
        return Answer(fault=str(error))
    return Answer(load_w=load_w, sun_w=sun_w, error_w=error_w, persistence_error_w=persistence_w)


if __name__ == "__main__":
    sys.exit(main())
