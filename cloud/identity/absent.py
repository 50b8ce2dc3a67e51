"""A key that a role's share of the keys does not have: known by its public half, and it signs nothing."""

from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloud.identity.key_store import KeyringError, Stored


class AbsentKey(Ed25519PrivateKey):
    """Stands for the private key wherever only its public half is asked for. Raises KeyringError for all else."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def public_key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self._stored.public))

    def sign(self, data: Any) -> NoReturn:
        refuse(self._stored)

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        refuse(self._stored)

    def private_bytes_raw(self) -> NoReturn:
        refuse(self._stored)

    def __copy__(self) -> "AbsentKey":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "AbsentKey":
        return self


def refuse(stored: Stored) -> NoReturn:
    """Raises KeyringError."""
    raise KeyringError(
        f"key {stored.name}: is not among the keys that this folder was given; do it where all keys are, or give the "
        "role its keys with `vpp-cloud keys export`"
    )
