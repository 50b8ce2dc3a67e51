"""Published updates on their way to sites: what each is to have, what it told, and the files it may fetch."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from cloud.store.ledger import Ledger
from protos.vpp.v1 import site_pb2

CHUNK_BYTES: Final = 64 * 1024
_PREFIX: Final = "STATE_"


def keep_told(
    ledger: Ledger, site: str, told: Iterable[site_pb2.UpdateStatus], now: datetime
) -> list[site_pb2.SignedManifest]:
    """Records how far the site's updates have come, and returns those it is to have."""
    wanted = ledger.updates_of(site)
    versions = {(update.kind, update.name): update.version for update in wanted}
    now_ms = int(now.timestamp() * 1000)
    for status in told:
        known = ledger.site_update(site, status.kind, status.name)
        # What it tells of the version before does not count for the one that was ordered since.
        if known is None or versions.get((status.kind, status.name)) != status.version:
            continue
        try:
            state = site_pb2.UpdateStatus.State.Name(status.state).removeprefix(_PREFIX).lower()
        except ValueError:
            continue  # of a newer agent
        ledger.set_update_state(known, state, status.reason[:500], now_ms)
    return [
        site_pb2.SignedManifest(
            manifest=update.manifest.encode(),
            signature=bytes.fromhex(update.signature),
            key_id=bytes.fromhex(update.key_id),
        )
        for update in wanted
    ]


def find_file(ledger: Ledger, folder: Path, site: str, sha256: str) -> Path | None:
    """The file, if one of the site's updates has it."""
    for update in ledger.updates_of(site):
        if any(file["sha256"] == sha256 for file in json.loads(update.manifest)["files"]):
            path = folder / sha256
            return path if path.is_file() else None
    return None
