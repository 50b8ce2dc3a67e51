"""The command signature, checked by another implementation of Ed25519 (libsodium)."""

import hashlib

import nacl.exceptions
import nacl.signing
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity.signing import CommandSigner
from protos.vpp.v1 import intent_pb2


def test_signed_intent_verifies_and_says_by_which_key() -> None:
    # RFC 8032, 7.1, test 1: secret and public key.
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signer = CommandSigner(Ed25519PrivateKey.from_private_bytes(secret))
    intent = intent_pb2.Intent(site="home-01", sequence=7, release=intent_pb2.Release())
    signed = signer.sign(intent)
    assert signer.public_key == public
    assert nacl.signing.VerifyKey(public).verify(signed.intent, signed.signature) == signed.intent
    assert intent_pb2.Intent.FromString(signed.intent) == intent
    assert signed.key_id == hashlib.sha256(public).digest()[:8]


def test_any_changed_byte_breaks_it() -> None:
    signer = CommandSigner(Ed25519PrivateKey.generate())
    signed = signer.sign(intent_pb2.Intent(site="home-01", sequence=7))
    key = nacl.signing.VerifyKey(signer.public_key)
    for index in range(len(signed.intent)):
        changed = bytearray(signed.intent)
        changed[index] ^= 1
        with pytest.raises(nacl.exceptions.BadSignatureError):
            key.verify(bytes(changed), signed.signature)
