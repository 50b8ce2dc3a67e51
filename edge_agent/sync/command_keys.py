"""Which command keys this gateway believes: those that its enrolment brought, and those that one of them vouched for.

Credentials are renewed over a connection that proves the coordinator's servers, not who may move power: whoever took
over a server, or its certificate authority, must not be able to bring a command key of his own.
"""

import hashlib
import logging
from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from edge_agent.model.files import write_private
from protos.vpp.v1.site_pb2 import Credentials

log = logging.getLogger(__name__)

FILE = "command-keys.json"
_DAMAGED = "?"
ROTATION_CONTEXT = b"murmuration command key 1\n"


class _Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    claim: str  # digest of the claim token that the first of them came with
    keys: list[bytes]


def key_id(raw: bytes) -> bytes:
    """The name of a key on the wire."""
    return hashlib.sha256(raw).digest()[:8]


class CommandKeyStore:
    """Keeps the keys in the data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def take(self, credentials: Credentials, claim: str) -> tuple[list[bytes], str]:
        """The keys to believe from now on, and what is wrong with those of the credentials; empty if nothing is.

        claim: digest of the claim token that this gateway enrolled with last: what a new enrolment brings is believed,
        for it came with a token that a person carried here. A key that is no longer named is believed no longer, unless
        it is the last. Raises OSError.
        """
        held = self._read()
        named = list(credentials.command_keys)
        if held is None or held.claim not in (claim, _DAMAGED):
            keys, foreign = named, []
        else:
            keys = vouched_for(held.keys, credentials)
            foreign = [raw for raw in named if raw not in keys]
            keys = [raw for raw in keys if raw in named] or held.keys
        if held is None or (held.claim, held.keys) != (claim, keys):
            write_private(self._path, msgspec.json.encode(_Held(claim, keys)))
        if not foreign:
            return keys, ""
        names = ", ".join(key_id(raw).hex() for raw in foreign)
        return keys, (
            f"the coordinator names the command key {names}, but no key that this gateway knows vouches for it: it is "
            "not believed; if it is right, enrol the gateway anew"
        )

    def _read(self) -> _Held | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Held)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            # Nothing is believed that nobody vouches for: commands wait for a new enrolment, the owner's default holds.
            log.error("command keys lost, commands are refused until this gateway is enrolled anew: %s", error)
            return _Held(_DAMAGED, [])


def vouched_for(known: list[bytes], credentials: Credentials) -> list[bytes]:
    """The known keys, and those that follow from them, link by link."""
    by_id = {key_id(raw): raw for raw in known}
    before = 0
    while len(by_id) > before:  # in whatever order the links come
        before = len(by_id)
        for link in credentials.command_key_rotations:
            previous = by_id.get(link.previous_key_id)
            if previous is None or len(link.public_key) != 32 or key_id(link.public_key) in by_id:
                continue
            try:
                VerifyKey(previous).verify(ROTATION_CONTEXT + link.public_key, link.signature)
            except (BadSignatureError, ValueError):
                continue
            by_id[key_id(link.public_key)] = link.public_key
    return list(by_id.values())
