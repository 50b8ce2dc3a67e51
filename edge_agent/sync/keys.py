"""The agent's own keys. They are made on the gateway and never leave it."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import nkeys
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from edge_agent.model.config import ConfigError
from edge_agent.sync.files import write_private

CLIENT_KEY_FILE = "client.key"
NATS_SEED_FILE = "nats.nk"


@dataclass(frozen=True, slots=True)
class Keys:
    """An ECDSA P-256 key for gRPC's client certificate and a NATS user key."""

    client: ec.EllipticCurvePrivateKey = field(repr=False)
    nats_seed: bytes = field(repr=False)

    @property
    def client_pem(self) -> bytes:
        return self.client.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def nats_public(self) -> str:
        """The user nkey, "U..."."""
        public: bytes = nkeys.from_seed(bytearray(self.nats_seed)).public_key
        return public.decode()

    def sign_nonce(self, nonce: str) -> bytes:
        """The broker's challenge, signed with the user nkey."""
        signature: bytes = nkeys.from_seed(bytearray(self.nats_seed)).sign(nonce.encode())
        return signature

    def certificate_request(self, site: str) -> bytes:
        """PKCS#10, DER, with the site as common name; its signature proves possession of the key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.client, hashes.SHA256())
        return request.public_bytes(Encoding.DER)


def load_or_make_keys(folder: Path) -> Keys:
    """The keys in the data folder, made at the first start. Raises ConfigError where a file is not what it was."""
    client_path, seed_path = folder / CLIENT_KEY_FILE, folder / NATS_SEED_FILE
    if not client_path.exists():
        fresh = ec.generate_private_key(ec.SECP256R1())
        write_private(client_path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if not seed_path.exists():
        write_private(seed_path, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    return Keys(client=_client_key(client_path), nats_seed=_nats_seed(seed_path))


def _client_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path)
    return key


def _nats_seed(path: Path) -> bytes:
    seed = _read(path).strip()
    try:
        nkeys.from_seed(bytearray(seed))
    except Exception as error:  # nkeys lets binascii's, nacl's and its own errors through
        raise _damaged(path) from error
    return seed


def _read(path: Path) -> bytes:
    """Content of a private file; one that others could read is made private, loudly refused if that fails."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the file to the agent's user, mode 0600"
        ) from error


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: is not the key this agent made; restore it, or remove the folder's keys and credentials and enrol "
        "again with a new claim file"
    )
