"""The console's web server inside the coordinator's event loop."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Generator

import uvicorn
from fastapi import FastAPI

from cloud.api.live import Live

GRACE_S = 2  # for answers under way when it stops
STOP_S = GRACE_S + 3.0


class ListenError(Exception):
    """The address cannot be listened on; the text says why and what to do."""


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to its host and ends open streams before it waits for them."""

    def __init__(self, config: uvicorn.Config, live: Live, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._live = live
        self._started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.broadcaster.close()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address; port 0 takes a free one. Raises ListenError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ListenError(
            f"console: cannot listen on {host}:{port} ({error.strerror}): set [listen] console_port to a free port"
        ) from error
    return listener


async def serve(
    app: FastAPI, host: str, port: int, *, listening: Callable[[int], None], tls: ssl.SSLContext | None = None
) -> None:
    """Serves `app` (of `create_app`) and feeds its open tabs, until cancelled.

    When cancelled it ends the streams, gives answers under way GRACE_S and closes the port before it returns.
    Installs no signal handlers. listening: told the port once requests are answered. tls: None for plain HTTP. Raises
    ListenError.
    """
    live: Live = app.state.live
    listener = bind(host, port)
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,  # one-time links are in paths
        log_config=None,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    config.ssl = tls  # uvicorn itself takes a key from a file only
    server = _Server(config, live, lambda: listening(listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="console server")
    feeding = asyncio.create_task(live.run(), name="console feed")
    try:
        done, _ = await asyncio.wait({serving, feeding}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        feeding.cancel()
        server.should_exit = True
        await asyncio.wait({serving, feeding}, timeout=STOP_S)
        serving.cancel()
        listener.close()
