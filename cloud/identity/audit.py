"""The audit log's witness: signs checkpoints with a key of its own, and finds where a log was tampered with.

The chain shows a change that leaves the later hashes as they were. Who can write the file can make all later hashes
anew; the checkpoints show that, because the audit key does not lie in the ledger. What no log in one place can show is
that its end was cut off back to a checkpoint together with the later checkpoints: for that, each checkpoint is also
written to the coordinator's own log, and `verify` takes one from there as `anchor`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloud.model.audit import GENESIS, AuditCheckpoint, AuditEntry, checkpoint_bytes, hash_as

_KEY_ID_BYTES: Final = 8
MOST_FINDINGS: Final = 20
_FARTHEST: Final = 50  # how far from its place an entry is looked for


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where the log is not what was written."""

    number: int  # the entry it is about, as it was written
    what: str  # "changed", "removed", "inserted", "reordered", "rewritten", "cut off", "forged checkpoint"
    text: str  # one line

    def __str__(self) -> str:
        return f"entry {self.number}: {self.text}"


class AuditSigner:
    """Signs checkpoints with the audit key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key: Final = key.public_key().public_bytes_raw()

    def checkpoint(self, entry: AuditEntry, at_ms: int) -> AuditCheckpoint:
        signature = self._key.sign(checkpoint_bytes(entry.number, entry.entry_hash, at_ms))
        return AuditCheckpoint(
            number=entry.number,
            entry_hash=entry.entry_hash,
            at_ms=at_ms,
            key_id=audit_key_id(self.public_key),
            signature=signature.hex(),
        )


def audit_key_id(public_key: bytes) -> str:
    return hashlib.sha256(public_key).digest()[:_KEY_ID_BYTES].hex()


def verify(
    entries: Iterable[AuditEntry],
    checkpoints: Sequence[AuditCheckpoint],
    public_key: bytes,
    *,
    anchor: tuple[int, str] | None = None,
) -> list[Finding]:
    """Every place where the log was changed; empty for one that is as it was written.

    public_key: the audit key's, raw. anchor: number and hash of an entry as known from elsewhere.
    """
    chain = _Chain()
    for entry in entries:
        chain.add(entry)
    found = [*chain.findings(), *_checked(chain, checkpoints, public_key)]
    if anchor is not None and chain.hashes.get(anchor[0]) != anchor[1]:
        present = anchor[0] in chain.hashes
        what = "rewritten" if present else "cut off"
        text = "its hash is not the one of the anchor" if present else "the anchor names it, but it is gone"
        found.append(Finding(anchor[0], what, text))
    return sorted(_once(found), key=lambda finding: finding.number)[:MOST_FINDINGS]


class _Chain:
    """The rows as they stand, each with the number under which it was written (None: nobody wrote it so)."""

    def __init__(self) -> None:
        self.hashes: dict[int, str] = {}  # by the number at which a row stands
        self._rows: list[tuple[int, int | None, str, str]] = []  # stands at, written as, previous hash, own hash
        self._shift = 0

    def add(self, entry: AuditEntry) -> None:
        written = self._written_as(entry)
        if written is not None:
            self._shift = written - entry.number
        self._rows.append((entry.number, written, entry.previous_hash, entry.entry_hash))
        self.hashes[entry.number] = entry.entry_hash

    def _written_as(self, entry: AuditEntry) -> int | None:
        near = (entry.number, entry.number + self._shift, entry.number + 1, entry.number - 1)
        for number in near:
            if number > 0 and hash_as(entry, number) == entry.entry_hash:
                return number
        far = (entry.number + sign * distance for distance in range(2, _FARTHEST) for sign in (-1, 1))
        return next((number for number in far if number > 0 and hash_as(entry, number) == entry.entry_hash), None)

    def findings(self) -> Iterator[Finding]:
        follows = {previous for _, _, previous, _ in self._rows}
        by_number: dict[int, list[tuple[int, str]]] = {}  # written as -> where it stands, hash
        changed = {at for at, written, _, _ in self._rows if written is None}
        for at, written, _, own in self._rows:
            if written is not None:
                by_number.setdefault(written, []).append((at, own))
        for at in sorted(changed):
            if at in by_number:
                yield Finding(at, "inserted", f"it was never part of the log; entry {at} stands elsewhere")
            else:
                yield Finding(at, "changed", "its content is not what its hash was made of")
        last = max([*by_number, *changed], default=0)
        for number in range(1, last + 1):
            claims = by_number.get(number, [])
            if not claims and number not in changed:
                yield Finding(number, "removed", "it is gone, and later entries are there")
            if len(claims) > 1:
                for at, own in claims:
                    if own not in follows:
                        yield Finding(at, "inserted", f"it was never part of the log; entry {number} is another one")
        yield from self._misplaced(by_number)
        yield from self._unlinked(changed)

    def _misplaced(self, by_number: dict[int, list[tuple[int, str]]]) -> Iterator[Finding]:
        """Rows that stand in another order than they were written in."""
        newest = 0
        for at, written, _, _ in self._rows:
            if written is None or len(by_number[written]) > 1:
                continue
            if written < newest:
                yield Finding(written, "reordered", f"it stands as entry {at}, behind entry {newest}")
            newest = max(newest, written)

    def _unlinked(self, changed: set[int]) -> Iterator[Finding]:
        """Rows at their place whose own hash fits, but not the hash that the next entry has of them."""
        before: tuple[int, str] = (0, GENESIS)
        for at, written, previous, own in self._rows:
            if written == at and at == before[0] + 1 and previous != before[1] and before[0] not in changed:
                yield Finding(before[0] or at, "changed", "its hash is not the one that the next entry has of it")
            before = (at if written == at else -1, own)


def _checked(chain: _Chain, checkpoints: Sequence[AuditCheckpoint], public_key: bytes) -> Iterator[Finding]:
    key, key_id = Ed25519PublicKey.from_public_bytes(public_key), audit_key_id(public_key)
    good = 0
    for checkpoint in checkpoints:
        data = checkpoint_bytes(checkpoint.number, checkpoint.entry_hash, checkpoint.at_ms)
        try:
            key.verify(bytes.fromhex(checkpoint.signature), data)
        except (InvalidSignature, ValueError):
            whose = "" if checkpoint.key_id == key_id else f" (it names key {checkpoint.key_id}, ours is {key_id})"
            yield Finding(
                checkpoint.number, "forged checkpoint", f"its checkpoint is not signed by the audit key{whose}"
            )
            continue
        stands = chain.hashes.get(checkpoint.number)
        if stands is None:
            yield Finding(checkpoint.number, "cut off", "a signed checkpoint stands at it, but it is gone")
        elif stands != checkpoint.entry_hash:
            yield Finding(
                checkpoint.number,
                "rewritten",
                f"an entry from {good + 1} to it was changed, and the hashes were made to fit: its checkpoint differs",
            )
        else:
            good = checkpoint.number


def _once(found: Iterable[Finding]) -> Iterator[Finding]:
    seen: set[tuple[int, str]] = set()
    for finding in found:
        if (finding.number, finding.what) not in seen:
            seen.add((finding.number, finding.what))
            yield finding
