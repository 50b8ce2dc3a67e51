"""From what is registered, asked and measured to what the live page shows. No I/O, no clock."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from cloud.api import frames
from cloud.api.asked import Asked
from cloud.fleet.state import FleetState
from cloud.model.records import IntentState, Site
from protos import services

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LATE_MS: Final = 5_000  # since the newest sample: an agent reports every second
SILENT_MS: Final = 30_000


class Board:
    """The fleet as it is registered and asked; measured values come with each call. Rows are sites, by slot."""

    def __init__(self, sites: Sequence[Site] = (), asked: Asked = Asked()) -> None:  # noqa: B008 (frozen)
        self.sites = sorted(sites, key=lambda site: site.slot)
        self.roster = frames.Roster([site.site for site in self.sites], [list(site.groups) for site in self.sites])
        self._slots = np.array([site.slot for site in self.sites], dtype=np.int64)
        texts = {service.service_id: service.service_toml for service in asked.services}
        self._services = {service_id: services.parse(texts[service_id]) for service_id in sorted(texts)}
        self._service_ids = list(self._services)
        row_of = {site.slot: row for row, site in enumerate(self.sites)}
        count = len(self.sites)
        self._service = np.full(count, -1, dtype=np.int64)
        self._contracted_w = np.full(count, np.nan)
        self._state = np.full(count, frames.SENT, dtype=np.int64)
        self._valid_from_ms = np.zeros(count, dtype=np.int64)
        self._expires_ms = np.zeros(count, dtype=np.int64)
        for service in asked.services:
            row = row_of[service.slot]
            self._service[row] = self._service_ids.index(service.service_id)
            self._contracted_w[row] = service.contracted_w
            self._state[row] = _STATE[service.state]
            self._valid_from_ms[row] = service.valid_from_ms
            self._expires_ms[row] = service.expires_ms

    def columns(self, fleet: FleetState, now_ms: int, responding_slots: npt.ArrayLike) -> frames.Columns:
        """The newest of every site.

        responding_slots: whose armed service answers now.
        """
        asked = (self._service >= 0) & (now_ms < self._expires_ms)
        age_ms = self._age_ms(fleet, now_ms)
        # Of a site that is not heard it is not known that it answers.
        answers = np.isin(self._slots, responding_slots) & (age_ms <= LATE_MS)
        state = np.where((self._state == frames.ARMED) & answers, frames.ACTIVE, self._state)
        return frames.Columns(
            soc_permille=frames.whole(self._rows(fleet.soc), 1000),
            inverter_power_w=frames.whole(self._rows(fleet.inverter_power_w)),
            grid_power_w=frames.whole(self._rows(fleet.grid_power_w)),
            pv_power_w=frames.whole(self._rows(fleet.pv_power_w)),
            frequency_mhz=frames.whole(self._rows(fleet.frequency_hz), 1000),
            service=frames.whole(np.where(asked, self._service, np.nan)),
            contracted_w=frames.whole(np.where(asked, self._contracted_w, np.nan)),
            service_state=frames.whole(np.where(asked, state, np.nan)),
            link=_link(age_ms).tolist(),
            age_ms=frames.whole(age_ms),
        )

    def flexible(self, fleet: FleetState) -> frames.Flexible:
        """The newest of every site's chargers and loads."""
        return frames.Flexible(
            ev_power_w=frames.whole(self._rows(fleet.ev_power_w)),
            ev_connected=frames.whole(self._rows(fleet.ev_connected)),
            ev_session_wh=frames.whole(self._rows(fleet.ev_session_wh)),
            flexible_load_power_w=frames.whole(self._rows(fleet.flexible_load_power_w)),
        )

    def system(self, fleet: FleetState, now_ms: int, *, broker: bool) -> frames.System:
        """The state of the whole."""
        in_force = (
            (self._service >= 0)
            & (self._state != frames.REFUSED)
            & (self._valid_from_ms <= now_ms)
            & (now_ms < self._expires_ms)
        )
        armed = []
        for index, (service_id, service) in enumerate(self._services.items()):
            members = in_force & (self._service == index)
            if members.any():
                armed.append(
                    frames.ArmedSummary(
                        service=service_id,
                        sites=int(members.sum()),
                        contracted_w=int(self._contracted_w[members].sum()),
                        thresholds_hz=service.thresholds_hz,
                    )
                )
        return frames.System(
            broker=broker,
            sites=len(self.sites),
            online=int((_link(self._age_ms(fleet, now_ms)) <= frames.LATE).sum()),
            armed=armed,
            nominal_hz=self._nominal_hz(fleet),
            services=self._service_ids,
        )

    def _nominal_hz(self, fleet: FleetState) -> float | None:
        """What the services asked for agree on, else the nominal frequency nearest to what is measured."""
        named = {service.nominal_hz for service in self._services.values()}
        if len(named) == 1:
            return float(named.pop())
        measured = fleet.frequency_hz[np.isfinite(fleet.frequency_hz)]
        if measured.size == 0:
            return None
        return 50.0 if float(np.median(measured)) < 55.0 else 60.0

    def _age_ms(self, fleet: FleetState, now_ms: int) -> Floats:
        seen_ms = self._rows(fleet.last_seen_ms.astype(np.float64))
        return np.where(np.nan_to_num(seen_ms) > 0, np.maximum(now_ms - seen_ms, 0.0), np.nan)

    def _rows(self, column: Floats) -> Floats:
        """The column's values for our sites; NaN for one that the fleet has no slot for yet."""
        if not column.size:
            return np.full(self._slots.size, np.nan)
        return np.where(self._slots < column.size, column[np.minimum(self._slots, column.size - 1)], np.nan)


_STATE: Final = {
    IntentState.ISSUED: frames.SENT,
    IntentState.RECEIVED: frames.RECEIVED,
    IntentState.ACCEPTED: frames.ACCEPTED,
    IntentState.ACTIVE: frames.ARMED,
    IntentState.REFUSED: frames.REFUSED,
}


def _link(age_ms: Floats) -> Integers:
    link = np.select([age_ms <= LATE_MS, age_ms <= SILENT_MS], [frames.LIVE, frames.LATE], frames.SILENT)
    return np.where(np.isnan(age_ms), frames.NEVER, link).astype(np.int64)
