"""The agent's own keys. They are made on the gateway and never leave it."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import nkeys

from edge_agent.model.files import write_private
from protos.settings import SettingsError

CLIENT_KEY_FILE = "client.key"
NATS_SEED_FILE = "nats.nk"
REQUEST_TIMEOUT_S = 60.0  # a small gateway loads a large library for it


class Keys:
    """An ECDSA P-256 key for gRPC's client certificate, and a NATS user key. Each made when first needed."""

    def __init__(self, folder: Path) -> None:
        """The keys in the data folder. Raises SettingsError where a file is not what it was."""
        self._client = folder / CLIENT_KEY_FILE
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

    @property
    def client_pem(self) -> bytes:
        """The client certificate's private key, PEM. Raises SettingsError."""
        return _read(self._client)

    @property
    def client_digest(self) -> str:
        """SHA-256 of the private key's file, hex: tells whether it is still the key a certificate was made for."""
        return hashlib.sha256(self.client_pem).hexdigest()

    async def certificate_request(self, site: str) -> bytes:
        """PKCS#10, DER, signed by the client key, which is made if there is none. Raises SettingsError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "edge_agent.sync.certificate_request", "--key", str(self._client), "--site", site),
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
        if process.returncode != 0:
            raise _damaged(self._client, finding.decode(errors="replace").strip())
        return request


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
