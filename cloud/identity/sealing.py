"""Small secrets that must be read again, kept so that a copy of the ledger does not give them away."""

import base64
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloud.identity import vault

KEY_FILE: Final = "people.key"
KEY_BYTES: Final = 32
PURPOSE: Final = "murmuration people key"
_NONCE_BYTES: Final = 12


class SealError(Exception):
    """What was sealed cannot be opened with this key: another one, or it was altered."""


class Sealer:
    """AES-256-GCM; each seal is bound to what it is for, and opens for nothing else."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError unless the key has KEY_BYTES bytes."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, purpose: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, secret, purpose.encode())).decode()

    def open(self, sealed: str, purpose: str) -> bytes:
        """Raises SealError."""
        try:
            data = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise SealError(f"the secret of {purpose} cannot be opened: restore the keys that belong to it") from error


def open_sealer(folder: Path, passphrase: bytes) -> Sealer:
    """The sealer of a keys folder, its key made on first use and kept under the passphrase. Raises SealError."""
    path = folder / KEY_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise SealError(f"{path}: cannot be made ({error.strerror}); start `vpp-cloud run` once") from error
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(vault.seal(secrets.token_bytes(KEY_BYTES), passphrase, PURPOSE))
            file.flush()
            os.fsync(file.fileno())
    try:
        return Sealer(vault.unseal(path.read_bytes(), passphrase, PURPOSE))
    except (OSError, ValueError) as error:
        raise SealError(f"{path}: cannot be used ({error}); restore it from a backup") from error
