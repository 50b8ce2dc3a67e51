"""Runs a model in a process of its own, for one answer, and never longer than it may take."""

import asyncio
import importlib.util
import sys
from typing import Final

import msgspec

from edge_agent.forecast.exchange import Answer, Request

WITHIN_S: Final = 120.0  # of a gateway that has other things to do; its CPU time is bounded more tightly
LARGEST_ANSWER_BYTES: Final = 1 << 16
NEEDED: Final = "onnxruntime"
MISSING: Final = "the model needs onnxruntime, which is not installed: pip install 'murmuration-vpp[forecast]'"


def is_installed() -> bool:
    """Whether the extra `forecast` is."""
    return importlib.util.find_spec(NEEDED) is not None


async def run_model(request: Request) -> Answer:
    """What the model says; its `fault` where it cannot be used. Raises OSError where no process can be started."""
    if not is_installed():
        return Answer(fault=MISSING)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # nothing of the folder that we happen to be in is imported
        "-m",
        __package__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            said, _ = await process.communicate(msgspec.json.encode(request))
    except TimeoutError:
        return Answer(fault=f"it gave no answer within {WITHIN_S:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        return Answer(fault=_ended(process.returncode))
    try:
        return msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError as error:
        return Answer(fault=f"its answer is none: {error}")


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by signal {-code}: it took too much time or memory, or is damaged"
    return f"its process ended with code {code}"
