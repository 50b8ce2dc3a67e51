"""The emergency stop, kept across restarts: it stands until it is lifted, whatever else expires or is asked."""

import logging
from pathlib import Path

import msgspec

from edge_agent.model.files import write_private
from edge_agent.model.intent import StopOrder

log = logging.getLogger(__name__)

FILE = "stop.json"
LOCAL_FILE = "stop-local.json"  # the order of whoever stands at the gateway: only there it is lifted
SITE = ""  # an order to this site alone; else the name of the group that was told


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stop: bool
    issued_ms: int
    reason: str


class Stops:
    """The last order of the site and of each of its groups.

    An order counts against older ones of its own addressee; one to the site alone against those to its groups as well,
    so that a group's end of a stop does not start a site that was stopped by itself.
    """

    def __init__(self, folder: Path) -> None:
        """What stands in the folder. A file that cannot be read stops the site: nobody can say that it may run."""
        self._path = folder / FILE
        self._local_path = folder / LOCAL_FILE
        self._orders = self._read()
        self._local = _read_local(self._local_path)

    @property
    def standing(self) -> StopOrder | None:
        """The stop that stands; None where the site may run."""
        if self._local is not None and self._local.stop:
            return StopOrder(stop=True, issued_ms=self._local.issued_ms, reason=f"at the gateway: {self._local.reason}")
        own = self._orders.get(SITE)
        for addressee, order in self._orders.items():
            lifted = addressee != SITE and own is not None and not own.stop and own.issued_ms > order.issued_ms
            if order.stop and not lifted:
                return StopOrder(stop=True, issued_ms=order.issued_ms, reason=order.reason)
        return None

    def take(self, addressee: str, order: StopOrder) -> bool:
        """Takes an order; whether it changed what stands. What is not newer than the addressee's last is ignored.

        It counts from now on even where it cannot be kept for the next start. Raises OSError for that.
        """
        last = self._orders.get(addressee)
        if last is not None and order.issued_ms <= last.issued_ms:
            return False
        before = self.standing
        self._orders[addressee] = _Order(order.stop, order.issued_ms, order.reason)
        write_private(self._path, msgspec.json.encode(self._orders))
        return (before is None) != (self.standing is None)

    def read_local(self) -> StopOrder | None:
        """What was ordered at the gateway meanwhile; None where that is nothing new."""
        read = _read_local(self._local_path)
        if read == self._local:
            return None
        self._local = read
        return StopOrder(stop=read.stop, issued_ms=read.issued_ms, reason=read.reason) if read is not None else None

    def _read(self) -> dict[str, _Order]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Order])
        except FileNotFoundError:
            return {}
        except (msgspec.DecodeError, OSError) as error:
            log.error("emergency stop cannot be read, the site stays stopped: file=%s error=%s", self._path, error)
            return {SITE: _Order(True, 0, f"{self._path.name} cannot be read: {error}")}


def order_locally(folder: Path, *, stop: bool, reason: str, now_ms: int) -> None:
    """Leaves the order of whoever stands at the gateway for the agent. Raises OSError."""
    write_private(folder / LOCAL_FILE, msgspec.json.encode(_Order(stop, now_ms, reason)))


def _read_local(path: Path) -> _Order | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Order)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        log.error("local stop cannot be read, the site stays stopped: file=%s error=%s", path, error)
        return _Order(True, 0, f"{path.name} cannot be read: {error}")
