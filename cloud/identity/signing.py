"""The coordinator's signature under what it asks of a site; each agent checks it itself."""

import hashlib
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protos import subjects
from protos.manifest import CONTEXT
from protos.vpp.v1 import broadcast_pb2, intent_pb2, site_pb2

KEY_ID_LENGTH: Final = 8
_ROTATION: Final = b"murmuration command key 1\n"


class CommandSigner:
    """Signs intents and broadcasts with the command key."""

    def __init__(self, key: Ed25519PrivateKey, former: Iterable[bytes] = ()) -> None:
        """former: raw public keys that signed before it."""
        self._own: list[Ed25519PublicKey] = [Ed25519PublicKey.from_public_bytes(raw) for raw in former]
        self.use(key)

    def use(self, key: Ed25519PrivateKey) -> None:
        """Signs with another key from now on."""
        self._key = key
        self.public_key = key.public_key().public_bytes_raw()
        self.key_id = key_id(self.public_key)
        self._own.insert(0, key.public_key())

    def sign(self, intent: intent_pb2.Intent) -> intent_pb2.SignedIntent:
        """The intent as it travels: the bytes that were signed, so that nobody has to serialise them alike."""
        data = intent.SerializeToString(deterministic=True)
        return intent_pb2.SignedIntent(intent=data, signature=self._key.sign(data), key_id=self.key_id)

    def sign_broadcast(self, broadcast: broadcast_pb2.Broadcast) -> broadcast_pb2.SignedBroadcast:
        """The broadcast as it travels; signed over another text than an intent: neither can pass for the other."""
        data = broadcast.SerializeToString(deterministic=True)
        signature = self._key.sign(subjects.BROADCAST_SIGNED_AS + data)
        return broadcast_pb2.SignedBroadcast(broadcast=data, signature=signature, key_id=self.key_id)

    def sign_configure_now(self, notice: site_pb2.ConfigureNow) -> site_pb2.SignedConfigureNow:
        """The notice as it travels; it can pass for neither an intent nor a broadcast."""
        data = notice.SerializeToString(deterministic=True)
        signature = self._key.sign(subjects.CONFIGURE_NOW_SIGNED_AS + data)
        return site_pb2.SignedConfigureNow(notice=data, signature=signature, key_id=self.key_id)

    def sign_manifest(self, manifest: bytes) -> bytes:
        """The detached signature under an update's manifest."""
        return self._key.sign(CONTEXT + manifest)

    def is_own(self, signed: intent_pb2.SignedIntent) -> bool:
        """Whether this key signed it, or one that it followed."""
        return any(_verifies(key, signed) for key in self._own)


def key_id(public_key: bytes) -> bytes:
    """What a signed intent names its key by."""
    return hashlib.sha256(public_key).digest()[:KEY_ID_LENGTH]


def rotation_bytes(public_key: bytes) -> bytes:
    """What the key before signs when this one is to follow it; nothing else that is signed begins like that."""
    return _ROTATION + public_key


def _verifies(key: Ed25519PublicKey, signed: intent_pb2.SignedIntent) -> bool:
    try:
        key.verify(signed.signature, signed.intent)
    except InvalidSignature:
        return False
    return True
