"""A site's certificate is of our own authority: it must not pass for a node of the broker's cluster."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from cloud.gateway.broker import Broker
from cloud.gateway.nats_server import ClusterNode
from cloud.gateway.ports import free_port
from cloud.gateway.testing import HOST, utc_now
from cloud.identity import certificates
from cloud.identity.keyring import Keyring

DEADLINE_S = 30


@pytest.fixture
async def route_port(tmp_path: Path, keyring: Keyring) -> AsyncIterator[int]:
    """Where a node of a cluster awaits the others."""
    port = free_port(HOST)
    node = Broker(
        tmp_path / "node",
        keyring,
        host=HOST,
        port=free_port(HOST),
        public_host=HOST,
        now=utc_now,
        name="n1",
        node=ClusterNode(port=port, routes=(f"{HOST}:{free_port(HOST)}",)),
    )
    await node.start()
    yield port
    await node.stop()


def as_site(keyring: Keyring, folder: Path) -> ssl.SSLContext:
    key = certificates.make_key()
    certificate = certificates.issue_site_certificate(
        keyring.authority, keyring.authority_key, key.public_key(), "home-01", now=utc_now(), lifetime=timedelta(days=1)
    )
    chain = certificates.certificate_pem(certificate) + certificates.certificate_pem(keyring.authority)
    (folder / "site.pem").write_bytes(certificates.key_pem(key) + chain)
    trust = ssl.create_default_context(cafile=str(keyring.authority_file))
    trust.check_hostname = False
    trust.load_cert_chain(folder / "site.pem")
    return trust


@pytest.mark.parametrize("guess", [{}, {"user": "route", "pass": "guessed"}], ids=["no password", "a guessed one"])
async def test_site_does_not_join_the_cluster(
    tmp_path: Path, keyring: Keyring, route_port: int, guess: dict[str, str]
) -> None:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(HOST, route_port, ssl=as_site(keyring, tmp_path))
        told = {"verbose": False, "name": "N" * 56, "cluster": "murmuration", "lnoc": True, **guess}
        writer.write(b"CONNECT " + json.dumps(told).encode() + b"\r\nPING\r\n")
        try:
            answer = await reader.read()
        except (ConnectionError, ssl.SSLError):
            answer = b""
        writer.close()
    assert b"PONG" not in answer
    assert b"Authorization" in answer
