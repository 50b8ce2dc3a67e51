"""What stands at sites, and what became of their telemetry."""

from cloud.store.engine import Tables
from cloud.store.migrations.table import create


def thinned_frames(db: Tables) -> None:
    create(
        db,
        "thinned_frames",
        {"number": int, "site": str, "event_id": str, "at_ms": int, "frames": int, "runs": str},
        pk="number",
        foreign_keys=(("site", "sites", "site"),),
    )
    db.table("thinned_frames").create_index(["site", "event_id"], unique=True)
