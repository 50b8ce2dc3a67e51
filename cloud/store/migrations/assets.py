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


def groups_resources_and_tariffs(db: Tables) -> None:
    create(
        db,
        "site_groups",
        {"name": str, "kind": str, "parent": str, "created_ms": int},
        pk="name",
        optional=("parent",),  # no foreign key: rows move to another database in any order
    )
    create(
        db,
        "resources",
        {
            "site": str,
            "name": str,
            "manufacturer": str,
            "model": str,
            "serial": str,
            "sunspec_models": str,
            "rated_power_w": float,
            "max_charge_w": float,
            "max_discharge_w": float,
            "storage_capacity_wh": float,
        },
        pk=("site", "name"),
        foreign_keys=(("site", "sites", "site"),),
    )
    create(db, "tariffs", {"name": str, "currency": str, "interval_ms": int, "created_ms": int}, pk="name")
    create(
        db,
        "tariff_rates",
        {"tariff": str, "start_ms": int, "import_price": str, "export_price": str},
        pk=("tariff", "start_ms"),
        foreign_keys=(("tariff", "tariffs", "name"),),
    )
