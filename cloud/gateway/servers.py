"""gRPC servers as both services of the gateway need them."""

import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from cloud.gateway.broker import bracketed
from cloud.gateway.ports import PortError
from cloud.identity.keyring import Keyring
from cloud.store.errors import LedgerUnavailable

log = logging.getLogger(__name__)

STOP_S: Final = 2.0
_MOST_RPCS: Final = 256
# Of each port, with handshakes under way; 45 KB each. Beyond it a connection is closed, and its agent comes again.
MOST_CONNECTIONS: Final = 12_000
_MOST_BYTES: Final = 256 * 1024


def _options(most_connections: int) -> Sequence[tuple[str, int]]:
    # Both ends must agree on pings: the server closes a connection that pings more often than it allows.
    return (
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a port shared with a stranger
        ("grpc.max_receive_message_length", _MOST_BYTES),
        ("grpc.max_send_message_length", _MOST_BYTES),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.max_concurrent_streams", 16),
        ("grpc.max_allowed_incoming_connections", most_connections),
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.max_connection_idle_ms", 60_000),  # an agent's connection lives as long as its call
    )


def load_pair(context: ssl.SSLContext, keyring: Keyring) -> None:
    """Gives a TLS server the keyring's certificate; connections that are open keep the one before."""
    memory = os.memfd_create("murmuration-console-key", os.MFD_CLOEXEC)  # OpenSSL's wrapper reads files only
    try:
        os.write(memory, keyring.server_key_pem)
        context.load_cert_chain(keyring.server_certificate_file, f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


def make_server(most_connections: int = MOST_CONNECTIONS) -> grpc.aio.Server:
    """What is over its bounds is refused at once, so that memory has a bound too."""
    options = _options(most_connections)
    return grpc.aio.server(interceptors=[LedgerAway()], options=options, maximum_concurrent_rpcs=_MOST_RPCS)


class LedgerAway(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # it takes none when it runs
    """Answers UNAVAILABLE while the ledger is away: whoever asked may ask again, nothing was kept."""

    def __init__(self) -> None:
        self._told = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:  # of no method of ours
            return None
        if handler.unary_unary is not None:
            answer = handler.unary_unary

            async def one(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
                try:
                    result = await answer(request, context)
                except LedgerUnavailable as error:
                    await self._refuse(error, context)
                self._told = False
                return result

            return handler._replace(unary_unary=one)
        stream = handler.unary_stream

        async def many(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            try:
                async for part in stream(request, context):
                    yield part
            except LedgerUnavailable as error:
                await self._refuse(error, context)

        return handler._replace(unary_stream=many)

    async def _refuse(self, error: LedgerUnavailable, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if not self._told:
            log.warning("gateways are told to come back later: %s", error)
        self._told = True
        await context.abort(
            grpc.StatusCode.UNAVAILABLE, "the coordinator cannot reach its ledger now: come back a little later"
        )


def bind_tls(
    server: grpc.aio.Server, keyring: Keyring, *, host: str, port: int, key: str, client_certificates: bool
) -> None:
    """Give a server its port, with client certificates of our own authority required or none asked for.

    key: the port's key in [listen], for the error. Raises PortError.
    """
    version = keyring.version

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(keyring.server_key_pem, keyring.server_pem)],
            root_certificates=keyring.client_trust_pem if client_certificates else None,
        )

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Asked at every handshake: what was rotated counts from the next one on."""
        nonlocal version
        if keyring.version == version:
            return None
        version = keyring.version
        return configuration()

    credentials = grpc.dynamic_ssl_server_credentials(
        configuration(),
        changed,  # type: ignore[arg-type]  # None: as before; the stubs do not know
        client_certificates,
    )
    try:
        server.add_secure_port(f"{bracketed(host)}:{port}", credentials)
    except RuntimeError as error:
        raise PortError(
            f"port {port} on {host} (listen.{key}) cannot be had; set listen.{key} to a free port"
        ) from error
