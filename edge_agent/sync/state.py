"""The little that must outlive even a lost journal: which sequence numbers are spent, which intents were accepted."""

import logging
from pathlib import Path

import msgspec

from edge_agent.model.files import write_private

log = logging.getLogger(__name__)

FILE = "state.json"


class AcceptedIntent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest accepted intent of one kind."""

    sequence: int
    digest: str  # SHA-256 of its signed bytes, hex


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seq_reserved: int = 0
    accepted: dict[str, AcceptedIntent] = {}
    claim_used: str = ""


class State:
    """state.json in the data folder; every change is on the disk before the call returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._content = self._read()

    def _read(self) -> _Content:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return _Content()
        except (msgspec.DecodeError, OSError) as error:
            # Going on without it costs replay protection for intents that have not expired yet, stopping would cost
            # the site's telemetry and every new intent.
            log.error("state lost, starting afresh: file=%s error=%s", self._path, error)
            return _Content()

    def _write(self, content: _Content) -> None:
        write_private(self._path, msgspec.json.encode(content))
        self._content = content

    @property
    def seq_reserved(self) -> int:
        """Every frame sequence number below this one may have been used."""
        return self._content.seq_reserved

    def reserve_seq(self, upper: int) -> None:
        if upper > self._content.seq_reserved:
            self._write(msgspec.structs.replace(self._content, seq_reserved=upper))

    def accepted(self, kind: str) -> AcceptedIntent | None:
        """The newest intent of this kind that was ever accepted."""
        return self._content.accepted.get(kind)

    def accept(self, kind: str, intent: AcceptedIntent) -> None:
        accepted = {**self._content.accepted, kind: intent}
        self._write(msgspec.structs.replace(self._content, accepted=accepted))

    @property
    def claim_used(self) -> str:
        """SHA-256 (hex) of the claim token that the present credentials were got with; empty before."""
        return self._content.claim_used

    def use_claim(self, digest: str) -> None:
        self._write(msgspec.structs.replace(self._content, claim_used=digest))
