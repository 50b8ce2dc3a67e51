"""A page for whoever stands before the gateway: what the site does now and why, in words.

Served by sync, so nothing a browser does can hold up the control loop. It shows and takes nothing: one address, GET
only, no scripts, no cookies; by default only to the gateway itself.
"""

import asyncio
import contextlib
import html
import ipaddress
import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.model.clock import Clock
from edge_agent.model.status import STATISTICS, journal_sentence, sentences
from edge_agent.sync.journal import JournalError, read_status
from protos.settings import SettingsError

REFRESH_S = 5
REQUEST_TIMEOUT_S = 5.0
MOST_REQUEST_BYTES = 8192
MOST_VISITORS = 8  # at once; more are sent away
ASK_EVERY_S = 2.0  # control writes its figures anew at most so often for a visitor

_HEADERS = (
    "Content-Type: text/html; charset=utf-8\r\n"
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
    f"Refresh: {REFRESH_S}\r\nConnection: close\r\n"
)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "h1{font-size:1.4rem}dt{font-weight:600;margin-top:.8rem}dd{margin:0}footer{margin-top:2rem;opacity:.7}"
)


class StatusPage:
    """One site's page."""

    def __init__(self, site: str, data_dir: Path, clock: Clock, *, control_pid: int) -> None:
        """control_pid: this process's parent, which SIGUSR1 asks for fresh figures."""
        self._site = site
        self._data_dir = data_dir
        self._clock = clock
        self._control_pid = control_pid
        self._visitors = 0
        self._asked_s = float("-inf")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request."""
        self._visitors += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                status, body = await self._answer(reader)
                content = body.encode()
                head = f"HTTP/1.1 {status}\r\n{_HEADERS}Content-Length: {len(content)}\r\n\r\n"
                writer.write(head.encode("ascii") + content)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a visitor who does not speak HTTP, or has gone
        finally:
            self._visitors -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, str]:
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *headers = request.split("\r\n")
        method, _, rest = line.partition(" ")
        host = next((h.partition(":")[2].strip() for h in headers if h.lower().startswith("host:")), "")
        if self._visitors > MOST_VISITORS:
            return "503 Service Unavailable", _document("Too many visitors at once", "")
        if not _is_ours(host):
            return "421 Misdirected Request", _document("Not known by this name", "")
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", _document("This page is only read", "")
        if rest.partition(" ")[0] != "/":
            return "404 Not Found", _document("There is only /", "")
        await self._ask_control()
        return "200 OK", await asyncio.to_thread(self._page)

    async def _ask_control(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s < ASK_EVERY_S:
            return
        self._asked_s = now_s
        if os.getppid() == self._control_pid:  # else it is gone, and its number may be anybody's
            with contextlib.suppress(OSError):
                os.kill(self._control_pid, signal.SIGUSR1)
            await asyncio.sleep(0.2)  # a few cycles: it writes between two of them

    def _page(self) -> str:
        try:
            control = json.loads((self._data_dir / STATISTICS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            control = None
        lines = list(sentences(control, self._clock.utc_ms()))
        with contextlib.suppress(JournalError):
            status = read_status(self._data_dir)
            counters = {name: getattr(status, name) for name in status.__dataclass_fields__}
            lines.append(("Journal", journal_sentence(counters)))
        rows = "".join(f"<dt>{html.escape(about)}</dt><dd>{html.escape(words)}</dd>" for about, words in lines)
        return _document(f"Site {self._site}", f"<dl>{rows}</dl><footer>Refreshed every {REFRESH_S} seconds.</footer>")


def _is_ours(host: str) -> bool:
    """False for a name of somebody else's: his page in the owner's browser shall not read this one under it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # half an IPv6 address
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name in ("localhost", socket.gethostname().lower())


def _document(title: str, content: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>{content}</html>"
    )


async def open_page(page: StatusPage, host: str, port: int) -> asyncio.Server:
    """Listens. Raises SettingsError."""
    try:
        return await asyncio.start_server(page.serve, host, port, limit=MOST_REQUEST_BYTES)
    except OSError as error:
        raise SettingsError(
            f"$.status_page: cannot listen on {host}:{port} ({error.strerror}); give another port or host"
        ) from error
