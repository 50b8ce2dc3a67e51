"""The broker: a nats-server of our own, watched and brought back."""

from cloud.gateway.broker import Broker
from cloud.gateway.revoker import Revoker
from cloud.model.role import Role
from cloud.roles.foundation import Foundation
from cloud.store.errors import LedgerUnavailable


async def start(on: Foundation) -> None:
    """Returns when the broker serves."""
    broker = on.broker
    assert broker is not None, "the foundation has a broker where there is this role"  # noqa: S101
    on.parts.on_stop("broker", broker.stop)
    await broker.start()
    _note(on, broker)

    def announce() -> None:
        _note(on, broker)
        on.announce()

    on.parts.run("broker keys", broker.follow_keys())
    on.parts.run("broker watch", broker.run(on_return=announce))
    if Role.COORDINATOR not in on.roles:  # which carries them to every broker while it leads, but not to our memory
        revoker = Revoker(on.ledger, on.keyring, broker.account, broker.link)
        on.parts.run_again("revocations", revoker.run, LedgerUnavailable)


def _note(on: Foundation, broker: Broker) -> None:
    on.served |= {"broker_pid": broker.pid, "broker": broker.url}
