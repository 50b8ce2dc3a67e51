"""The coordinator: every part of the cloud wired together, started in order and stopped in the reverse one."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from cloud.api.access import first_log_in_link
from cloud.api.app import create_app
from cloud.api.live import Live
from cloud.api.serve import ListenError, serve
from cloud.api.target import FleetTarget
from cloud.config import CoordinatorConfig
from cloud.data_folder import DataFolder, DataFolderError, write_json
from cloud.fleet.state import FleetState
from cloud.gateway import servers
from cloud.gateway.broker import Broker, bracketed, reachable
from cloud.gateway.credentials import CredentialIssuer
from cloud.gateway.enrolment import EnrolmentService
from cloud.gateway.guard import IntentGuard
from cloud.gateway.intents import IntentSender
from cloud.gateway.nats_server import BrokerError
from cloud.gateway.notary import Notary
from cloud.gateway.ports import PortError, Ports
from cloud.gateway.revoker import Revoker
from cloud.gateway.site_service import SiteGateway
from cloud.gateway.streams import TELEMETRY_GROUPS, ensure_streams
from cloud.identity.keyring import Keyring, KeyringError, open_keyring
from cloud.ingest.reports import ReportWorker
from cloud.ingest.worker import IngestWorker
from cloud.markets.client import MarketClient
from cloud.markets.desk import PARTICIPANT, Desk
from cloud.parts import PartFailed, Parts
from cloud.store.errors import StoreError
from cloud.store.history import History
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import site_pb2_grpc

log = logging.getLogger(__name__)

_START_S: Final = 30.0
_FORCED_EXIT_CODE: Final = 1

# What keeps a coordinator from starting and can be mended by whoever starts it: each is one line with its remedy.
REFUSALS: Final = (BrokerError, DataFolderError, KeyringError, ListenError, PortError, StoreError)


def utc_now() -> datetime:
    return datetime.now(UTC)


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


class Coordinator:
    """All roles in one process, on one data folder."""

    def __init__(self, config: CoordinatorConfig, data: DataFolder) -> None:
        self._config = config
        self._data = data
        self._parts = Parts()

    async def run(self, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        """Serve until `stop`. `say` gets what the person who started it wants to know.

        Raises what the parts raise while they start (each error is one line with a remedy), and PartFailed when one
        of them ends later.
        """
        with self._data.owned():
            self._data.run.unlink(missing_ok=True)
            try:
                try:
                    await self._start(say)
                except OSError as error:
                    finding = str(error) or type(error).__name__
                    raise DataFolderError(
                        f"{self._data.path}: cannot start on it ({finding}); check the disk and its permissions"
                    ) from error
                try:
                    await self._parts.until(stop)
                except Exception as error:
                    raise PartFailed(f"a part of the coordinator failed: {error!r}") from error
                log.info("stops")
            finally:
                self._data.run.unlink(missing_ok=True)
                await self._parts.stop()

    async def _start(self, say: Callable[[str], None]) -> None:
        """Start every part. What was started before an error is stopped by the caller."""
        listen, data, parts = self._config.listen, self._data, self._parts
        public = listen.advertised_host
        ports = Ports(data.ports, listen.host)
        enrolment_port = ports.resolve("enrolment_port", listen.enrolment_port)
        site_port = ports.resolve("site_port", listen.site_port)
        broker_port = ports.resolve("broker_port", listen.broker_port)
        console_port = ports.resolve("console_port", listen.console_port)
        own_names = (public, reachable(listen.host), "localhost", "127.0.0.1")
        keyring = open_keyring(data.keys, own_names, now=utc_now())

        ledger = Ledger(data.ledger)
        parts.on_stop("ledger", partial(asyncio.to_thread, ledger.close))
        notary = Notary(ledger, keyring.audit, utc_ms)
        parts.on_stop("last audit checkpoint", partial(asyncio.to_thread, notary.sign))
        parts.run("audit", notary.run())
        history = History(data.history)

        broker = Broker(
            data.broker,
            keyring,
            host=listen.host,
            port=broker_port,
            public_host=public,
            now=utc_now,
            revocations=lambda: ledger.revocations(utc_ms()),
        )
        parts.on_stop("broker", broker.stop)
        await broker.start()
        parts.run("revoker", Revoker(ledger, broker).run())
        nc = await broker.connect("intents")
        parts.on_stop("connection of intents", nc.close)
        await ensure_streams(nc.jetstream(timeout=10.0))

        enrolment = f"{bracketed(public)}:{enrolment_port}"
        site_service = f"{bracketed(public)}:{site_port}"
        issuer = CredentialIssuer(
            keyring, ledger, nats_urls=[broker.url], site_service=site_service, next_seq=history.next_seq
        )
        await self._serve_gateways(keyring, ledger, issuer, enrolment_port, site_port)
        write_json(data.addresses, {"enrolment": enrolment})

        fleet = FleetState()
        await self._ingest(broker, ledger, history, fleet)
        sender = IntentSender(nc, keyring.signer, ledger, utc_ms)
        watching = await broker.connect("guard")
        parts.on_stop("connection of guard", watching.close)
        guard = IntentGuard(watching, sender, ledger, utc_ms)
        parts.run("intent guard", guard.run())

        console = f"http://{bracketed(reachable(listen.host))}:{console_port}"
        log_in = first_log_in_link(ledger, console, utc_now())
        live = Live(fleet, ledger, FleetTarget(), broker_connected=lambda: nc.is_connected, utc_ms=utc_ms)
        await self._serve_console(create_app(ledger, live), console_port)
        if self._config.market is not None:
            market = MarketClient(self._config.market.url, PARTICIPANT)
            parts.on_stop("market client", market.close)
            desk = Desk(self._config.market, ledger, history, fleet, sender, market, utc_ms)
            parts.run("desk", desk.run())

        def announce() -> None:
            guard.look()
            write_json(
                data.run,
                {
                    "pid": os.getpid(),
                    "broker_pid": broker.pid,
                    "enrolment": enrolment,
                    "site_service": site_service,
                    "broker": broker.url,
                    "console": console,
                    "console_log_in": log_in,
                },
            )

        parts.run("broker watch", broker.run(on_return=announce))
        announce()
        log.info("serves: pid=%d data=%s", os.getpid(), data.path)
        say(f"console: {console}")
        if log_in is not None:
            say(f"first log-in (once, within a day): {log_in}")

    async def _serve_gateways(
        self, keyring: Keyring, ledger: Ledger, issuer: CredentialIssuer, enrolment_port: int, site_port: int
    ) -> None:
        """The two gRPC servers: one where the token is the proof, one where the client certificate is."""
        host = self._config.listen.host
        enrolment, sites = servers.make_server(), servers.make_server()
        site_pb2_grpc.add_EnrolmentServicer_to_server(  # type: ignore[no-untyped-call]
            EnrolmentService(ledger, issuer, utc_now), enrolment
        )
        interval_ms = self._config.telemetry.interval_ms
        gateway = SiteGateway(ledger, issuer, telemetry_interval_ms=interval_ms, now=utc_now)
        site_pb2_grpc.add_SiteServiceServicer_to_server(gateway, sites)  # type: ignore[no-untyped-call]
        for server, port, key, client_certificates in (
            (enrolment, enrolment_port, "enrolment_port", False),
            (sites, site_port, "site_port", True),
        ):
            servers.bind_tls(server, keyring, host=host, port=port, key=key, client_certificates=client_certificates)
            self._parts.on_stop(f"gRPC on {key}", partial(server.stop, servers.STOP_S))
            await server.start()

    async def _ingest(self, broker: Broker, ledger: Ledger, history: History, fleet: FleetState) -> None:
        """One reader for each telemetry stream and one for the reports, each on a connection of its own."""
        for group in range(TELEMETRY_GROUPS):
            stream = subjects.telemetry_stream(group)
            connection = await broker.connect(f"ingest-{stream}")
            self._parts.on_stop(f"connection of {stream}", connection.close)
            worker = IngestWorker(connection, stream, group, history=history, fleet=fleet, ledger=ledger, utc_ms=utc_ms)
            self._parts.run(f"ingest of {stream}", worker.run())
        connection = await broker.connect("reports")
        self._parts.on_stop("connection of reports", connection.close)
        self._parts.run("reports", ReportWorker(connection, ledger=ledger, utc_ms=utc_ms).run())

    async def _serve_console(self, app: FastAPI, port: int) -> None:
        listening = asyncio.Event()
        self._parts.run("console", serve(app, self._config.listen.host, port, listening=lambda _: listening.set()))
        await self._parts.until(listening, within_s=_START_S)


def run(config: CoordinatorConfig, data: Path, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once, and with it the broker."""
    asyncio.run(_until_signal(Coordinator(config, DataFolder(data.absolute())), say))


async def _until_signal(coordinator: Coordinator, say: Callable[[str], None]) -> None:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(_FORCED_EXIT_CODE)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await coordinator.run(stop, say)
