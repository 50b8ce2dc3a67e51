"""The coordinator's ledger: registry, intents, trades, people and updates in one database."""

from typing import Final

from cloud.store.approvals import Approvals
from cloud.store.dispatching import DispatchBook
from cloud.store.journal import Journal
from cloud.store.people import People
from cloud.store.regulations import RegulationBook
from cloud.store.thinned import ThinnedBook
from cloud.store.trades import Trades
from cloud.store.updates import Updates

LEDGER_FILE: Final = "ledger.db"  # in the data folder


class Ledger(Approvals, Journal, Trades, People, Updates, DispatchBook, RegulationBook, ThinnedBook):
    """All that must never be lost, in one database that several threads and processes may have open.

    Methods are short and synchronous; each is one transaction, and `transaction()` joins several. Instants are given
    by the caller, the ledger has no clock. Close it, or use it as a context manager.
    """
