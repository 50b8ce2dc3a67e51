"""An entry of the audit log, and the bytes by which one entry vouches for the one before it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GENESIS: Final = "0" * 64  # stands before the first entry
_CHECKPOINT_PREFIX: Final = "murmuration audit checkpoint 1"

Detail = str | int | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Something that was done or refused. Entries are numbered from 1 without a hole."""

    number: int
    at_ms: int
    actor: str  # "user:ada", "site:home-01", "command:unix-name", "address:…", "coordinator"
    action: str  # stable, e.g. "intent.issued"
    subject: str  # what it was done to: a site, a user
    detail: str  # canonical JSON object
    previous_hash: str  # of the entry before, SHA-256, hex
    entry_hash: str  # of this one


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCheckpoint:
    """The audit key's word that the log up to entry `number` is as it was written."""

    number: int
    entry_hash: str
    at_ms: int
    key_id: str  # of the audit key, hex
    signature: str  # Ed25519 over `checkpoint_bytes`, hex


def canonical(detail: Mapping[str, Detail]) -> str:
    """The one text of a JSON object: keys sorted, no spaces, ASCII."""
    return json.dumps(dict(detail), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def entry_hash(
    *, number: int, at_ms: int, actor: str, action: str, subject: str, detail: str, previous_hash: str
) -> str:
    """SHA-256, hex, over the canonical JSON of every field; `detail` goes in as the text that is stored."""
    fields: dict[str, Detail] = {
        "number": number,
        "at_ms": at_ms,
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": detail,
        "previous_hash": previous_hash,
    }
    return hashlib.sha256(canonical(fields).encode("ascii")).hexdigest()


def hash_as(entry: AuditEntry, number: int) -> str:
    """What the entry's hash would be, had it been written as entry `number`."""
    return entry_hash(
        number=number,
        at_ms=entry.at_ms,
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail=entry.detail,
        previous_hash=entry.previous_hash,
    )


def checkpoint_bytes(number: int, hash_of_entry: str, at_ms: int) -> bytes:
    """What a checkpoint's signature stands under."""
    return f"{_CHECKPOINT_PREFIX}\n{number}\n{hash_of_entry}\n{at_ms}\n".encode("ascii")
