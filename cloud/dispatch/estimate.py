"""What a group would do at a price, by what its workers summed up: for whoever must judge a price beforehand."""

from collections.abc import Mapping

from cloud.dispatch.activation import Running
from cloud.dispatch.prices import MILLION, Price
from protos.vpp.v1 import broadcast_pb2


class GroupEstimate:
    """Of the groups that are steered now; knows nothing of others."""

    def __init__(self) -> None:
        self._running: Mapping[str, Running] = {}

    def watch(self, running: Mapping[str, Running]) -> None:
        """running: the dispatcher's activations, as they come and go."""
        self._running = running

    def __call__(self, group: str, price: broadcast_pb2.Price) -> float | None:
        """Power of the sites that hear the group's price [W]; None where nothing is known of them."""
        said = Price(price.ticks, price.step_share_e6 / MILLION, price.tick_fraction_e6 / MILLION)
        for running in list(self._running.values()):
            if running.steering is not None and (power_w := running.steering.power_at(group, said)) is not None:
                return power_w
        return None
