"""`python -m hil.bench.timer RATE_HZ SECONDS`: a bare asyncio timer loop; prints how late it was, in ms, as JSON.

What the machine itself costs a loop: the yardstick for the agent's, which runs in the same minute under the same load,
with the same priority and without the garbage collector, too.
"""

import asyncio
import gc
import json
import sys
import time

import numpy as np

from edge_agent.runtime.process import take_priority


async def lateness_ms(rate_hz: float, seconds: float) -> list[float]:
    """How late each tick was."""
    late, due_s = [], time.monotonic()
    end_s = due_s + seconds
    while due_s < end_s:
        due_s += 1 / rate_hz
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        late.append(1e3 * (time.monotonic() - due_s))
    return late


def main() -> int:
    take_priority()
    gc.collect()
    gc.freeze()
    late = asyncio.run(lateness_ms(float(sys.argv[1]), float(sys.argv[2])))
    p50, p99 = np.percentile(late, [50, 99])
    sys.stdout.write(json.dumps({"p50": float(p50), "p99": float(p99)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
