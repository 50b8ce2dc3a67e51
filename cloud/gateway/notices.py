"""Tells sites at once that what they are to be has changed; else they would ask within ten minutes.

What changed is read off the audit log, where every command and page leaves it in the same transaction. A site that is
not there misses the notice, and asks when it comes back.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Final

import nats.errors
from nats.aio.client import Client

from cloud.identity.signing import CommandSigner
from cloud.model.audit import AuditEntry
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1.site_pb2 import ConfigureNow

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.5
_LIFE_MS: Final = 60_000
_AT_ONCE: Final = 20
_PAUSE_S: Final = 0.2  # so 100 sites a second: each answers with a TLS handshake
_LOOK_BACK: Final = 200  # entries: what was ordered while the lead was changing hands


class ConfigureNotices:
    """Watches the audit log for changes of what sites are to be."""

    def __init__(self, nc: Client, signer: CommandSigner, ledger: Ledger, utc_ms: Callable[[], int]) -> None:
        self._nc = nc
        self._signer = signer
        self._ledger = ledger
        self._utc_ms = utc_ms

    async def run(self) -> None:
        """Notify for ever."""
        last = await asyncio.to_thread(self._ledger.last_audit_entry)
        seen = max(0, last.number - _LOOK_BACK) if last else 0
        since_ms = self._utc_ms() - _LIFE_MS
        while True:
            fresh = await asyncio.to_thread(lambda after: list(self._ledger.audit_entries(after)), seen)
            if fresh:
                seen = fresh[-1].number
                await self._tell([site for entry in fresh if entry.at_ms >= since_ms for site in changed_sites(entry)])
            await asyncio.sleep(_LOOK_S)

    async def _tell(self, sites: list[str]) -> None:
        for number, site in enumerate(dict.fromkeys(sites), start=1):
            now_ms = self._utc_ms()
            notice = ConfigureNow(site=site, issued_ms=now_ms, expires_ms=now_ms + _LIFE_MS)
            payload = self._signer.sign_configure_now(notice).SerializeToString()
            try:
                await self._nc.publish(subjects.configure_now(site), payload)
            except (nats.errors.Error, OSError) as error:
                log.warning(
                    "sites ask by themselves, the broker took no notice for them: from=%s error=%r", site, error
                )
                return
            if number % _AT_ONCE == 0:
                await asyncio.sleep(_PAUSE_S)


def changed_sites(entry: AuditEntry) -> Iterator[str]:
    """The sites that are to be something else since this entry."""
    if entry.action == "site.configured":
        yield entry.subject
    elif entry.action == "update.ordered":
        yield from json.loads(entry.detail)["sites"].split(",")
