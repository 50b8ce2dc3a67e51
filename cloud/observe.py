"""How a process tells how it is: metrics, health and readiness over HTTP, logs as JSON lines, traces.

Served on a port of its own, on this machine only unless told: it says nothing of a site, but how much there is to do.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_LONGEST_REQUEST_BYTES: Final = 8192
_REQUEST_S: Final = 5.0
_AT_ONCE: Final = 16

Read = Callable[[], Mapping[tuple[str, ...], float]]


class _Gauges(Collector):
    """One metric that is read when it is asked for."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], read: Read) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for values, amount in self._read().items():
            family.add_metric(values, amount)
        yield family

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [GaugeMetricFamily(self._name, self._text, labels=self._labels)]


class Metrics:
    """What a process can be asked for, and whether it is ready."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._ready: dict[str, Callable[[], bool]] = {}
        self.gauge(
            "murmuration_ready",
            "1 for each thing that this process needs and has, else 0",
            lambda: {(name,): float(check()) for name, check in self._ready.items()},
            ("what",),
        )

    def gauge(self, name: str, text: str, read: Read, labels: tuple[str, ...] = ()) -> None:
        """read: the amount for each set of label values, when it is asked for; {(): amount} without labels."""
        self._registry.register(_Gauges(name, text, labels, read))

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def needs(self, what: str, check: Callable[[], bool]) -> None:
        """The process is ready while all of its checks say so."""
        self._ready[what] = check

    def missing(self) -> list[str]:
        """What it needs and has not."""
        return sorted(name for name, check in self._ready.items() if not check())

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body."""
        match path:
            case "/metrics":
                return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
            case "/healthz":
                return HTTPStatus.OK, "text/plain", b"ok\n"
            case "/readyz":
                if missing := self.missing():
                    text = f"not ready: {', '.join(missing)}\n"
                    return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", text.encode()
                return HTTPStatus.OK, "text/plain", b"ready\n"
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics, /healthz and /readyz\n"


async def serve(metrics: Metrics, host: str, port: int, listening: asyncio.Event) -> None:
    """Answers until cancelled; `listening` is set once it does. Raises OSError."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with turns, asyncio.timeout(_REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, *_ = *head.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", ""
                if method == "GET":
                    status, kind, body = metrics.answer(path.split("?", 1)[0])
                else:
                    status, kind, body = HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET\n"
                writer.write(
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(on_connection, host, port, limit=_LONGEST_REQUEST_BYTES)
    listening.set()
    async with server:
        await server.serve_forever()


class JsonLines(logging.Formatter):
    """A log line as one JSON object: at, level, logger, text, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


@contextlib.contextmanager
def traced(url: str | None, roles: Iterable[str]) -> Iterator[None]:
    """Sends the spans of this process to an OTLP collector at `url`; without one there are none."""
    if url is None:
        yield
        return
    resource = Resource.create({"service.name": "murmuration", "service.instance.roles": ",".join(roles)})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
