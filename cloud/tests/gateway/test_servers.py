"""A gRPC port has a bound of connections, half-open ones included; whoever leaves makes room."""

import socket
import ssl

import pytest

from cloud.gateway import servers
from cloud.gateway.ports import free_port
from cloud.identity.keyring import Keyring
from cloud.testing import DEADLINE_S

HOST = "127.0.0.1"


def is_closed(connection: socket.socket) -> bool:
    """Whether the server ends it rather than wait for a handshake."""
    connection.settimeout(DEADLINE_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


async def test_connections_beyond_the_bound_are_closed_and_whoever_leaves_makes_room(keyring: Keyring) -> None:
    server, port = servers.make_server(most_connections=3), free_port(HOST)
    servers.bind_tls(server, keyring, host=HOST, port=port, key="test", client_certificates=False)
    await server.start()
    try:
        held = [socket.create_connection((HOST, port)) for _ in range(3)]
        assert is_closed(socket.create_connection((HOST, port)))
        for connection in held:
            connection.close()
        trust = ssl.create_default_context(cadata=keyring.authority_pem.decode())
        trust.set_alpn_protocols(["h2"])
        for _ in range(100):  # the server learns of it a moment later
            try:
                with socket.create_connection((HOST, port), timeout=DEADLINE_S) as late:
                    trust.wrap_socket(late, server_hostname=HOST)
                break
            except OSError:
                continue
        else:
            pytest.fail("nobody gets in any more")
    finally:
        await server.stop(1)
