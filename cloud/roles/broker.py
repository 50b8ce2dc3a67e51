"""The broker: a nats-server of our own, watched and brought back."""

from cloud.gateway.broker import Broker
from cloud.roles.foundation import Foundation


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


def _note(on: Foundation, broker: Broker) -> None:
    on.served |= {"broker_pid": broker.pid, "broker": broker.url}
