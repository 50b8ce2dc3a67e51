"""Carries revocations and rotated signing keys to the broker, whoever wrote them, within a second."""

import asyncio
import logging
from typing import Final

from cloud.gateway.link import Account, Link
from cloud.gateway.nats_server import BrokerError
from cloud.identity.keyring import Keyring
from cloud.store.ledger import Ledger

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.5


class Revoker:
    """Watches ledger and keyring. A broker of ours reads the same whenever it starts."""

    def __init__(self, ledger: Ledger, keyring: Keyring, account: Account, link: Link) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._account = account
        self._link = link

    async def run(self) -> None:
        """Push for ever what is new; a broker that is away is tried again until it has taken it."""
        told, failed = ((0, 0), 0), False
        while True:
            mark = (await asyncio.to_thread(self._ledger.revocation_mark), self._keyring.version)
            if mark != told:
                try:
                    await self._account.push(self._link)
                except BrokerError as error:
                    if not failed:
                        log.error("revocations and keys are not at the broker yet: %s", error)
                    failed = True
                else:
                    log.info("revocations are at the broker: keys=%d", mark[0][0])
                    told, failed = mark, False
            await asyncio.sleep(_LOOK_S)
