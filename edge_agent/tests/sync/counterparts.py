"""Real counterparts for the sync process: a nats-server with decentralised JWTs, and gRPC over TLS.

Written from the contract (protos) and NATS's documentation, and sharing no code with the product's cloud side.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import ipaddress
import json
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import nats
import nkeys
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from nats.aio.client import Client, RawCredentials
from nats.js.api import StreamConfig

from protos import subjects
from protos.vpp.v1.broadcast_pb2 import Broadcast, SignedBroadcast
from protos.vpp.v1.intent_pb2 import Intent, SignedIntent
from protos.vpp.v1.site_pb2 import Credentials, EnrolRequest, RenewRequest, SiteConfiguration, SiteDescription
from protos.vpp.v1.site_pb2_grpc import (
    EnrolmentServicer,
    SiteServiceServicer,
    add_EnrolmentServicer_to_server,
    add_SiteServiceServicer_to_server,
)
from protos.vpp.v1.telemetry_pb2 import Batch, Frame

DEADLINE_S = 30.0


def utc_ms() -> int:
    return int(dt.datetime.now(dt.UTC).timestamp() * 1000)


class Authority:
    """A certificate authority."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key.public_key(), dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def _builder(self, subject: x509.Name, key: Any, life: dt.timedelta) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + life)
        )

    def _issue(self, builder: x509.CertificateBuilder) -> bytes:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(authority, critical=False).sign(self._key, hashes.SHA256())
        return certificate.public_bytes(Encoding.PEM)

    def server(self) -> tuple[bytes, bytes]:
        """Private key and certificate for 127.0.0.1, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = self._builder(name, key.public_key(), dt.timedelta(days=1)).add_extension(address, critical=False)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), self._issue(builder)

    def client(self, request: bytes, life: dt.timedelta) -> tuple[bytes, str]:
        """Certificate for a PKCS#10 request, PEM, and the request's common name."""
        csr = x509.load_der_x509_csr(request)
        assert csr.is_signature_valid
        name = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        assert isinstance(name, str)
        return self._issue(self._builder(csr.subject, csr.public_key(), life)), name


class Nkey:
    """A NATS key pair."""

    def __init__(self, prefix: int) -> None:
        self.seed: bytes = nkeys.encode_seed(os.urandom(32), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public: str = self._pair.public_key.decode()

    def mint(self, subject: str, name: str, claims: dict[str, Any], expires_s: int | None = None) -> str:
        """A JWT about `subject`, issued by this key."""
        body: dict[str, Any] = {
            "iat": utc_ms() // 1000,
            "iss": self.public,
            "sub": subject,
            "name": name,
            "nats": {**claims, "version": 2},
        }
        if expires_s is not None:
            body["exp"] = expires_s
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).rstrip(b"=").decode()
        header = _b64(b'{"typ":"JWT","alg":"ed25519-nkey"}')
        head = f"{header}.{_b64(json.dumps(body).encode())}"
        return f"{head}.{_b64(self._pair.sign(head.encode()))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Broker:
    """nats-server as a process: TLS, no anonymous access, JetStream, one account with a scoped signing key."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self._operator = Nkey(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Nkey(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = Nkey(nkeys.PREFIX_BYTE_ACCOUNT)
        self._scope = Nkey(nkeys.PREFIX_BYTE_ACCOUNT)
        self._authority = authority
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self.port = -1
        key, certificate = authority.server()
        (folder / "server.key").write_bytes(key)
        (folder / "server.pem").write_bytes(certificate)

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts it, on the port it had before if it had one; returns when it serves."""
        limits = dict.fromkeys(
            ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage"), -1
        ) | {"streams": -1, "consumer": -1, "wildcards": True}
        template = {**subjects.device_permissions(), "subs": -1, "data": -1, "payload": -1}
        scope = {"kind": "user_scope", "key": self._scope.public, "role": "device", "template": template}
        account = self._operator.mint(
            self._account.public,
            "VPP",
            {
                "type": "account",
                "limits": limits,
                "default_permissions": {"pub": {}, "sub": {}},
                "signing_keys": [scope],
            },
        )
        system = self._operator.mint(self._system.public, "SYS", {"type": "account"})
        operator = self._operator.mint(
            self._operator.public, "OP", {"type": "operator", "system_account": self._system.public}
        )
        config = self._folder / "broker.conf"
        config.write_text(
            f"""
            listen: "127.0.0.1:{self.port}"
            operator: {operator}
            system_account: {self._system.public}
            resolver: MEMORY
            resolver_preload: {{ {self._account.public}: {account}, {self._system.public}: {system} }}
            tls {{ cert_file: "{self._folder}/server.pem", key_file: "{self._folder}/server.key" }}
            jetstream {{ store_dir: "{self._folder}/jetstream", sync_interval: always }}
            """
        )
        program = Path(sys.executable).with_name("nats-server")
        self._process = await asyncio.create_subprocess_exec(
            str(program if program.exists() else shutil.which("nats-server")),
            "-c",
            str(config),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(DEADLINE_S):
            await self._until_ready(self._process)
        self._log = asyncio.create_task(_drink(self._process))

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        lines = []
        while line := (await process.stderr.readline()).decode():
            lines.append(line)
            if "Listening for client connections on " in line:
                self.port = int(line.rsplit(":", 1)[1])
            if "Server is ready" in line:
                return
        raise AssertionError("nats-server did not start:\n" + "".join(lines))

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._log is not None:
            await self._log
            self._log = None

    def device_jwt(self, public: str, site: str, life_s: float) -> str:
        claims = {
            "type": "user",
            "issuer_account": self._account.public,
            "tags": [f"pt:{subjects.partition_token(site)}", "grp:fast"],
        }
        return self._scope.mint(public, site, claims, int(utc_ms() / 1000 + life_s))

    @contextlib.asynccontextmanager
    async def backend(self) -> AsyncIterator[Client]:
        """A client that may do everything, as the coordinator's own."""
        user = Nkey(nkeys.PREFIX_BYTE_USER)
        jwt = self._account.mint(user.public, "backend", {"type": "user", "subs": -1, "data": -1, "payload": -1})
        text = (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        trust = ssl.create_default_context(cadata=self._authority.pem.decode())
        client = await nats.connect(self.url, user_credentials=RawCredentials(text), tls=trust)
        try:
            yield client
        finally:
            await client.close()

    async def make_streams(self) -> None:
        async with self.backend() as client:
            stream = client.jetstream()
            telemetry = subjects.telemetry_stream_subjects(0, 1)
            await stream.add_stream(StreamConfig(name="TEL_0", subjects=telemetry, duplicate_window=120.0))
            reports = list(subjects.REPORT_SUBJECTS)
            await stream.add_stream(StreamConfig(name="REPORT", subjects=reports, duplicate_window=120.0))
            await stream.add_stream(
                StreamConfig(
                    name=subjects.INTENT_STREAM,
                    subjects=list(subjects.INTENT_SUBJECTS),
                    max_msgs_per_subject=1,
                    allow_direct=True,
                )
            )

    async def stored(self, stream: str) -> list[tuple[str, bytes]]:
        """(subject, data) of every message in the stream, in its order."""
        async with self.backend() as client:
            context = client.jetstream()
            state = (await context.stream_info(stream)).state
            messages = [await context.get_msg(stream, seq) for seq in range(state.first_seq, state.last_seq + 1)]
            return [(message.subject or "", message.data or b"") for message in messages]

    async def frames(self) -> list[Frame]:
        """Every telemetry frame stored, in the stream's order."""
        return [frame for _, data in await self.stored("TEL_0") for frame in Batch.FromString(data).frames]


async def _drink(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.readline():
        pass


class Proxy:
    """A TCP relay in front of the broker that can hold back what the broker says, and cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.connections = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return f"tls://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self.connections += 1
        self._writers |= {writer, far_writer}
        for source, sink, gate in ((reader, far_writer, None), (far_reader, writer, self.answers)):
            task = asyncio.create_task(self._pump(source, sink, gate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event | None) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if gate is not None:
                    await gate.wait()
                if sink.is_closing():
                    return
                sink.write(data)
                await sink.drain()
        sink.close()

    def cut(self) -> None:
        """Ends every connection now; what is held back is lost."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


@dataclass
class Coordinator(EnrolmentServicer, SiteServiceServicer):
    """The two gRPC services."""

    authority: Authority
    broker: Broker
    tokens: dict[str, str] = field(default_factory=dict)  # token -> site
    interval_ms: int = 100
    life_s: float = 3600.0  # of the broker credentials
    certificate_life_s: float = 86400.0
    refusal: str = ""  # what Renew answers instead
    certificate_due: bool = False
    first_seq: int = 1
    clock_offset_ms: int = 0
    nats_url: str = ""
    command_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    used: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    enrolments: list[EnrolRequest] = field(default_factory=list)
    renewals: int = 0
    descriptions: "asyncio.Queue[tuple[str, SiteDescription]]" = field(default_factory=asyncio.Queue)
    renewed: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    enrolment_address: str = ""
    site_address: str = ""
    _server: Any = None

    @property
    def command_public(self) -> bytes:
        return self.command_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    async def start(self, enrolment_port: int = 0, site_port: int = 0) -> None:
        self._server = grpc.aio.server()
        add_EnrolmentServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        add_SiteServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        pair = self.authority.server()
        open_door = grpc.ssl_server_credentials([pair])
        mutual = grpc.ssl_server_credentials([pair], self.authority.pem, require_client_auth=True)
        self.enrolment_address = f"127.0.0.1:{self._server.add_secure_port(f'127.0.0.1:{enrolment_port}', open_door)}"
        self.site_address = f"127.0.0.1:{self._server.add_secure_port(f'127.0.0.1:{site_port}', mutual)}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    def claim(self, site: str, token: str = "token-1", **changed: str) -> str:
        """The text of a claim file."""
        self.tokens[token] = site
        values = {
            "site": site,
            "enrolment": self.enrolment_address,
            "token": token,
            "ca_certificates": self.authority.pem.decode(),
            **changed,
        }
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

    async def Enrol(self, request: EnrolRequest, context: Any) -> Credentials:  # noqa: N802 (named by the contract)
        self.enrolments.append(request)
        if request.claim_token not in self.tokens:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown token")
        if request.claim_token in self.used:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "token was used")
        if request.claim_token in self.expired:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "token has expired")
        self.used.add(request.claim_token)
        return self.credentials(request.certificate_request, request.nats_public_key)

    async def Configure(self, request: SiteDescription, context: Any) -> SiteConfiguration:  # noqa: N802 (named by the contract)
        site = context.auth_context()["x509_common_name"][0].decode()
        self.descriptions.put_nowait((site, request))
        return SiteConfiguration(
            telemetry_interval_ms=self.interval_ms,
            groups=["fast"],
            coordinator_time_ms=utc_ms() + self.clock_offset_ms,
        )

    async def Renew(self, request: RenewRequest, context: Any) -> Credentials:  # noqa: N802 (named by the contract)
        self.renewals += 1
        if self.refusal:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, self.refusal)
        site = context.auth_context()["x509_common_name"][0].decode()
        credentials = self.credentials(request.certificate_request, request.nats_public_key, site)
        credentials.certificate_due = self.certificate_due and not request.certificate_request
        self.renewed.put_nowait(credentials.site)
        return credentials

    def credentials(self, certificate_request: bytes, nats_public: str, site: str = "") -> Credentials:
        """A request empty as in a renewal that keeps its certificate gets none."""
        certificate, now_ms = b"", utc_ms()
        if certificate_request:
            certificate, site = self.authority.client(
                certificate_request, dt.timedelta(seconds=self.certificate_life_s)
            )
        return Credentials(
            site=site,
            slot=7,
            partition_token=subjects.partition_token(site),
            certificate=certificate,
            ca_certificates=self.authority.pem,
            nats_jwt=self.broker.device_jwt(nats_public, site, self.life_s),
            nats_urls=[self.nats_url or self.broker.url],
            site_service=self.site_address,
            command_keys=[self.command_public],
            first_seq=self.first_seq,
            issued_ms=now_ms,
            expires_ms=now_ms + int(self.life_s * 1000),
            certificate_expires_ms=now_ms + int(self.certificate_life_s * 1000),
        )

    def sign(self, intent: Intent) -> bytes:
        """Bytes of a SignedIntent."""
        data = intent.SerializeToString()
        key_id = hashlib.sha256(self.command_public).digest()[:8]
        return SignedIntent(intent=data, signature=self.command_key.sign(data), key_id=key_id).SerializeToString()

    def sign_broadcast(self, broadcast: Broadcast) -> bytes:
        """Bytes of a SignedBroadcast."""
        data = broadcast.SerializeToString()
        key_id = hashlib.sha256(self.command_public).digest()[:8]
        signature = self.command_key.sign(b"vpp.v1.Broadcast\0" + data)
        return SignedBroadcast(broadcast=data, signature=signature, key_id=key_id).SerializeToString()

    async def publish(self, kind: str, intent: Intent) -> None:
        async with self.broker.backend() as client:
            await client.jetstream().publish(subjects.intent(intent.site, kind), self.sign(intent))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another process writes and does not announce."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
