"""Every process beside its roles: it tells how it is."""

import asyncio
import time
from typing import Final

from cloud.gateway.ports import Ports
from cloud.model.role import Role
from cloud.observe import Metrics, serve
from cloud.roles.foundation import START_S, Foundation
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger

_LOOK_S: Final = 2.0


async def start(on: Foundation) -> None:
    """Returns when it answers, if it is to."""
    on.metrics.gauge(
        "murmuration_role_info",
        "1 for each role of the process",
        lambda: {(role,): 1.0 for role in on.roles},
        ("role",),
    )
    if set(on.roles) != {Role.BROKER}:  # which serves without it, by what it knew last
        on.parts.run("look at the ledger", _look_at_ledger(on.ledger, on.metrics))
    observe = on.config.observe
    if observe.port is None:
        return
    port = Ports(on.data.ports, observe.host).resolve("observe_port", observe.port)
    listening = asyncio.Event()
    on.parts.run("metrics", serve(on.metrics, observe.host, port, listening))
    await on.parts.until(listening, within_s=START_S)
    on.served |= {"observe": f"http://{observe.host}:{port}"}


async def _look_at_ledger(ledger: Ledger, metrics: Metrics) -> None:
    """Whether the ledger answers, and how quickly."""
    answers, took_s = True, 0.0
    metrics.needs("ledger", lambda: answers)
    metrics.gauge("murmuration_ledger_answer_seconds", "what the last look at the ledger took", lambda: {(): took_s})
    while True:
        begun_s = time.monotonic()
        try:
            await asyncio.to_thread(ledger.last_term)
            answers = True
        except LedgerError:
            answers = False
        took_s = time.monotonic() - begun_s
        await asyncio.sleep(_LOOK_S)
