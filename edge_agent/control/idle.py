"""Storage rests: the inverter passes on what its panels give."""

from edge_agent.control.bounds import Storage
from edge_agent.model.values import Proposal, Snapshot


def propose(snapshot: Snapshot, storage: Storage) -> Proposal:
    """The panels' power, to the watt; no wish without storage, where curtailing is all one could do."""
    if not storage.present:
        return Proposal(source="idle", note="no storage")
    return Proposal(source="idle", power_w=float(round(max(0.0, snapshot.pv_power_w.good or 0.0))))
