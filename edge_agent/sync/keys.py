"""The agent's own keys. They are made on the gateway and never leave it."""

import asyncio
import hashlib
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.experimental
import nkeys

from edge_agent.model.config import TokenConfig
from edge_agent.model.files import write_private
from protos.settings import SettingsError

if TYPE_CHECKING:
    from protos.hardware import Token  # its libraries are large: loaded where a token is used

CLIENT_KEY_FILE = "client.key"
NATS_SEED_FILE = "nats.nk"
TOKEN_KEY = "murmuration-agent"
REQUEST_TIMEOUT_S = 60.0  # a small gateway loads a large library for it


class Keys:
    """An ECDSA P-256 key for gRPC's client certificate, and a NATS user key. Each made when first needed.

    The first may lie in a PKCS#11 token. The NATS key is in a file in any case: what it opens ends within a day unless
    the first renews it.
    """

    def __init__(self, folder: Path, token: TokenConfig | None = None) -> None:
        """The keys in the data folder. Raises SettingsError where a file is not what it was."""
        self._client = folder / CLIENT_KEY_FILE
        self._place = token
        self._token: Token | None = None
        seed = folder / NATS_SEED_FILE
        if not seed.exists():
            write_private(seed, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
        self._nats_seed = _read(seed).strip()
        try:
            self.nats_public: str = nkeys.from_seed(bytearray(self._nats_seed)).public_key.decode()  # "U..."
        except Exception as error:  # nkeys lets binascii's, nacl's and its own errors through
            raise _damaged(seed, error) from error

    def sign_nonce(self, nonce: str) -> bytes:
        """The broker's challenge, signed with the user nkey."""
        signature: bytes = nkeys.from_seed(bytearray(self._nats_seed)).sign(nonce.encode())
        return signature

    def channel_credentials(self, roots: bytes, certificate: bytes) -> grpc.ChannelCredentials:
        """For a gRPC channel on which the client key proves who this is. Raises SettingsError."""
        if self._place is None:
            return grpc.ssl_channel_credentials(roots, _read(self._client), certificate)
        with warnings.catch_warnings():  # gRPC calls it experimental; nothing else signs outside of its process
            warnings.simplefilter("ignore")
            by_token: grpc.ChannelCredentials = grpc.experimental.ssl_channel_credentials_with_custom_signer(
                private_key_sign_fn=self._sign_handshake, root_certificates=roots, certificate_chain=certificate
            )
        return by_token

    def _sign_handshake(self, data: bytes, algorithm: object, _: object) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        if self._token is None:
            assert self._place is not None  # noqa: S101 (who has none does not sign here)
            self._token = open_token(self._place)
        return self._token.p256(TOKEN_KEY).sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def client_digest(self) -> str:
        """SHA-256, hex, of the private key's file or of its place: is it still the key a certificate was made for?"""
        if self._place is not None:
            return hashlib.sha256(f"{self._place.module}\0{self._place.label}".encode()).hexdigest()
        return hashlib.sha256(_read(self._client)).hexdigest()

    async def certificate_request(self, site: str) -> bytes:
        """PKCS#10, DER, signed by the client key, which is made if there is none. Raises SettingsError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "edge_agent.sync.certificate_request", "--site", site, *self._where()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                request, finding = await process.communicate()
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        if process.returncode != 0 and self._place is not None:
            raise SettingsError(finding.decode(errors="replace").strip())
        if process.returncode != 0:
            raise _damaged(self._client, finding.decode(errors="replace").strip())
        return request

    def _where(self) -> tuple[str, ...]:
        if self._place is None:
            return ("--key", str(self._client))
        return ("--module", self._place.module, "--label", self._place.label, "--pin-file", self._place.pin_file)


def open_token(place: TokenConfig) -> "Token":
    """Logged in to. Raises SettingsError."""
    from protos.hardware import Token, TokenError

    try:
        return Token(Path(place.module), place.label, _read(Path(place.pin_file)).decode().strip("\r\n"))
    except TokenError as error:
        raise SettingsError(f"coordinator.token: {error}") from error


def _read(path: Path) -> bytes:
    """Content of a private file; one that others could read is made private first."""
    try:
        path.chmod(0o600)
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); give the file to the agent's user, mode 0600"
        ) from error


def _damaged(path: Path, finding: object) -> SettingsError:
    return SettingsError(
        f"{path}: is not the key this agent made ({finding}); restore it, or remove {CLIENT_KEY_FILE}, "
        f"{NATS_SEED_FILE} and credentials.json and enrol again with a new claim file"
    )
