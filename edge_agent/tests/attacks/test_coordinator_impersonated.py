"""Somebody else answers at the coordinator's address: the agent gives him neither its token nor its telemetry."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edge_agent.tests.sync.agent import Agent
from edge_agent.tests.sync.counterparts import DEADLINE_S, Authority, Broker, Coordinator
from protos.vpp.v1.site_pb2_grpc import EnrolmentServicer, add_EnrolmentServicer_to_server

Pair = tuple[bytes, bytes]
DAY = dt.timedelta(days=1)


def self_signed(name: str = "127.0.0.1", begins: dt.timedelta = -DAY, ends: dt.timedelta = DAY) -> Pair:
    """A server's key and a certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, certificate.public_bytes(Encoding.PEM)


def wrong_authority(real: Authority) -> tuple[Pair, bytes]:
    return Authority().server(), real.pem


def same_name_of_another_authority(real: Authority) -> tuple[Pair, bytes]:
    return Authority("test authority").server(), real.pem


def self_signed_by_a_stranger(real: Authority) -> tuple[Pair, bytes]:
    return self_signed(), real.pem


def expired(real: Authority) -> tuple[Pair, bytes]:
    """Trusted by the claim itself, but out of its time."""
    pair = self_signed(begins=-2 * DAY, ends=-DAY)
    return pair, pair[1]


def not_yet_valid(real: Authority) -> tuple[Pair, bytes]:
    pair = self_signed(begins=DAY, ends=2 * DAY)
    return pair, pair[1]


def name_mismatch(real: Authority) -> tuple[Pair, bytes]:
    """A certificate that the claim trusts, for another address."""
    pair = self_signed("192.0.2.1")
    return pair, pair[1]


class Impostor(EnrolmentServicer):
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def Enrol(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802 (named by the contract)
        self.told.append(request.claim_token)
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown token")


def claim_text(address: str, ca_certificates: bytes) -> str:
    return (
        f'site = "home-01"\nenrolment = "{address}"\ntoken = "the-secret"\n'
        f"ca_certificates = '''\n{ca_certificates.decode()}'''\n"
    )


@pytest.mark.parametrize(
    "make",
    [
        wrong_authority,
        same_name_of_another_authority,
        self_signed_by_a_stranger,
        expired,
        not_yet_valid,
        name_mismatch,
    ],
)
async def test_impostor_hears_no_token(tmp_path: Path, make: Callable[[Authority], tuple[Pair, bytes]]) -> None:
    pair, trusted = make(Authority())
    impostor, server = Impostor(), grpc.aio.server()
    add_EnrolmentServicer_to_server(impostor, server)  # type: ignore[no-untyped-call]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    agent = Agent(tmp_path)
    agent.claim_file.write_text(claim_text(f"127.0.0.1:{port}", trusted))
    try:
        await agent.start()
        code, stderr = await agent.ended()
    finally:
        await agent.kill()
        await server.stop(0)
    assert impostor.told == []
    assert (code, stderr.count("\n")) == (2, 1), stderr
    assert "does not prove to be the coordinator" in stderr
    assert "the-secret" not in stderr


async def test_plaintext_impostor_hears_no_token(tmp_path: Path) -> None:
    heard = asyncio.Queue[bytes]()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    agent = Agent(tmp_path)
    port = server.sockets[0].getsockname()[1]
    agent.claim_file.write_text(claim_text(f"127.0.0.1:{port}", Authority().pem))
    try:
        await agent.start()
        async with asyncio.timeout(DEADLINE_S):
            first = await heard.get()
    finally:
        await agent.kill()
        server.close()
    assert first[:2] == b"\x16\x03", "the agent speaks TLS first, or nothing"
    assert b"the-secret" not in first


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_downgraded_tls_is_refused(tmp_path: Path) -> None:
    """A server that knows nothing newer than TLS 1.1 gets no handshake."""
    private, certificate = self_signed()
    (tmp_path / "pair.pem").write_bytes(private + certificate)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(tmp_path / "pair.pem")
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1

    def shake_hands() -> bytes | None:
        """What comes through, or None where there is no agreement."""
        connection, _ = listener.accept()
        connection.settimeout(DEADLINE_S)
        with connection:
            try:
                return old.wrap_socket(connection, server_side=True).recv(4096)
            except (ssl.SSLError, ConnectionError):
                return None

    agent = Agent(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        agent.claim_file.write_text(claim_text(f"127.0.0.1:{listener.getsockname()[1]}", certificate))
        try:
            await agent.start()
            assert await asyncio.to_thread(shake_hands) is None
        finally:
            await agent.kill()


async def test_enrolled_agent_takes_no_other_coordinator(
    agent: Agent, authority: Authority, broker: Broker, coordinator: Coordinator
) -> None:
    """After enrolment its own list of authorities counts: another coordinator at the same address is not believed."""
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await agent.start()
    await agent.describe()
    assert await agent.link() is True
    assert (await agent.control_goes())[0] == 0
    ports = [int(address.rpartition(":")[2]) for address in (coordinator.enrolment_address, coordinator.site_address)]
    await coordinator.stop()
    other = Coordinator(Authority(), broker)
    await other.start(*ports)
    try:
        await agent.start()
        await agent.describe()
        code, _ = await agent.control_goes()
        assert code == 0
        assert other.descriptions.empty()
    finally:
        await other.stop()
