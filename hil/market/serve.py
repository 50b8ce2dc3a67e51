"""`vpp-hil market`: the market as a process of its own on loopback."""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from hil.market.exchange import Exchange
from hil.market.recorded import RecordedPrices
from hil.market.server import create_app
from hil.rigs.recorded import instant

READY_FILE = "market.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help=f"folder for {READY_FILE}, written once it serves")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0: a free one")
    parser.add_argument(
        "--recorded-start-utc",
        type=instant,
        required=True,
        help="ISO instant at which the rig started: its quarter hour stands for the scenario's recorded start",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT. 2: it could not begin."""
    try:
        args.data.mkdir(parents=True, exist_ok=True)
        listener = socket.create_server(("127.0.0.1", args.port), backlog=64)
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"vpp-hil: market on port {args.port}, data {args.data}: {error}\n")
        return 2
    exchange = Exchange(RecordedPrices(args.recorded_start_utc))
    app = create_app(exchange, lambda: datetime.now(UTC))
    asyncio.run(_serve(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2), listener, args.data))
    return 0


class _Server(uvicorn.Server):
    """uvicorn, without its habit of dying by the signal it was stopped with: a stop is a clean end here."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


async def _serve(config: uvicorn.Config, listener: socket.socket, folder: Path) -> None:
    ready = folder / READY_FILE
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listener:
        server = _Server(config)
        # The socket listens already: whoever reads the file and connects at once waits in its backlog.
        begun = asyncio.create_task(server.serve(sockets=[listener]))
        partial = ready.with_suffix(".partial")
        partial.write_text(json.dumps({"pid": os.getpid(), "url": url}))
        partial.replace(ready)
        try:
            await begun
        finally:
            ready.unlink(missing_ok=True)
