"""The coordinator's signature under what it asks of a site; each agent checks it itself."""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2

KEY_ID_LENGTH: Final = 8


class CommandSigner:
    """Signs intents and broadcasts with the command key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key: Final = key.public_key().public_bytes_raw()
        self.key_id: Final = hashlib.sha256(self.public_key).digest()[:KEY_ID_LENGTH]

    def sign(self, intent: intent_pb2.Intent) -> intent_pb2.SignedIntent:
        """The intent as it travels: the bytes that were signed, so that nobody has to serialise them alike."""
        data = intent.SerializeToString(deterministic=True)
        return intent_pb2.SignedIntent(intent=data, signature=self._key.sign(data), key_id=self.key_id)

    def sign_broadcast(self, broadcast: broadcast_pb2.Broadcast) -> broadcast_pb2.SignedBroadcast:
        """The broadcast as it travels; signed over another text than an intent: neither can pass for the other."""
        data = broadcast.SerializeToString(deterministic=True)
        signature = self._key.sign(subjects.BROADCAST_SIGNED_AS + data)
        return broadcast_pb2.SignedBroadcast(broadcast=data, signature=signature, key_id=self.key_id)

    def is_own(self, signed: intent_pb2.SignedIntent) -> bool:
        """Whether this very key signed it."""
        try:
            self._key.public_key().verify(signed.signature, signed.intent)
        except InvalidSignature:
            return False
        return True
