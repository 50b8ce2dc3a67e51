"""Metrics, health and readiness over HTTP; logs as JSON lines."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud.observe import JsonLines, Metrics, serve

HOST = "127.0.0.1"
DEADLINE_S = 30


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.gauge("murmuration_waiting", "what waits", lambda: {("TEL_0",): 3.0, ("TEL_1",): 0.0}, ("stream",))
    return metrics


def values(metrics: Metrics, name: str) -> dict[str, float]:
    _, _, body = metrics.answer("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    return {",".join(sample.labels.values()): sample.value for sample in families[name].samples}


def test_metrics_are_read_when_they_are_asked_for(metrics: Metrics) -> None:
    assert values(metrics, "murmuration_waiting") == {"TEL_0": 3.0, "TEL_1": 0.0}
    assert values(metrics, "process_resident_memory_bytes")[""] > 1e6


def test_ready_is_who_has_all_it_needs(metrics: Metrics) -> None:
    has = {"ledger": True, "broker": False}
    for what in has:
        metrics.needs(what, partial(has.__getitem__, what))
    assert metrics.answer("/readyz")[0] == 503
    assert metrics.answer("/readyz")[2] == b"not ready: broker\n"
    assert values(metrics, "murmuration_ready") == {"ledger": 1.0, "broker": 0.0}
    assert metrics.answer("/healthz")[0] == 200  # alive all the same: a restart would not mend it
    has["broker"] = True
    assert metrics.answer("/readyz")[0] == 200


async def test_it_answers_over_http_and_minds_nonsense(metrics: Metrics, unused_tcp_port: int) -> None:
    listening = asyncio.Event()
    serving = asyncio.create_task(serve(metrics, HOST, unused_tcp_port, listening))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await listening.wait()
            async with httpx.AsyncClient(base_url=f"http://{HOST}:{unused_tcp_port}") as client:
                assert (await client.get("/healthz")).text == "ok\n"
                assert "murmuration_waiting" in (await client.get("/metrics?x=1")).text
                assert (await client.get("/nothing")).status_code == 404
                assert (await client.post("/metrics")).status_code == 405
            for junk in (b"\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000):
                reader, writer = await asyncio.open_connection(HOST, unused_tcp_port)
                writer.write(junk)
                await reader.read()
                writer.close()
            async with httpx.AsyncClient(base_url=f"http://{HOST}:{unused_tcp_port}") as client:
                assert (await client.get("/readyz")).status_code == 200
    finally:
        serving.cancel()
        await asyncio.wait({serving})


def test_a_log_line_is_one_json_object() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    log = logging.Logger("cloud.test")
    log.addHandler(handler)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it failed: what=%s", "Ω")
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"], told["text"]) == ("error", "cloud.test", "it failed: what=Ω")
    assert "ValueError: two\nlines" in told["traceback"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told["at"])


TRACED = """
import sys
from pathlib import Path
from cloud.observe import traced
from cloud.store.ledger import Ledger

with traced(sys.argv[1], ["ingest"]), Ledger(Path(sys.argv[2])) as ledger:
    ledger.add_site("home-01", (), now_ms=1)
"""


def test_spans_reach_a_collector(tmp_path: Path) -> None:
    told: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with HTTPServer((HOST, 0), Collector) as collector:
        serving = threading.Thread(target=collector.serve_forever)
        serving.start()
        try:
            url = f"http://{HOST}:{collector.server_port}/v1/traces"
            command = [sys.executable, "-c", TRACED, url, str(tmp_path / "ledger.db")]
            subprocess.run(command, check=True, timeout=DEADLINE_S)
        finally:
            collector.shutdown()
            serving.join()
    ((path, spans),) = told
    assert path == "/v1/traces"
    assert b"ledger.transaction" in spans
    assert b"murmuration" in spans
