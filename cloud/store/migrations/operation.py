"""Updates and dispatch."""

from cloud.store.engine import Tables
from cloud.store.migrations.table import create


def updates(db: Tables) -> None:
    create(
        db,
        "updates",
        {
            "digest": str,
            "kind": str,
            "name": str,
            "version": str,
            "manifest": str,
            "signature": str,
            "key_id": str,
            "published_ms": int,
        },
        pk="digest",
    )
    create(
        db,
        "site_updates",
        {
            "site": str,
            "kind": str,
            "name": str,
            "digest": str,
            "ordered_ms": int,
            "state": str,
            "reason": str,
            "updated_ms": int,
        },
        pk=("site", "kind", "name"),
        foreign_keys=(("site", "sites", "site"), ("digest", "updates", "digest")),
    )


def dispatch(db: Tables) -> None:
    site_key = (("site", "sites", "site"),)
    create(
        db,
        "activations",
        {
            "activation_id": str,
            "group": str,
            "target_w": int,
            "start_ms": int,
            "end_ms": int,
            "source": str,
            "reason": str,
            "actor": str,
            "created_ms": int,
            "state": str,
            "note": str,
            "target_wh": int,
            "expected_wh": int,
            "measured_wh": int,
            "error_p95_w": int,
            "cycles": int,
        },
        pk="activation_id",
        optional=("target_wh", "expected_wh", "measured_wh", "error_p95_w", "cycles"),
    )
    create(
        db,
        "activation_sites",
        {
            "activation_id": str,
            "site": str,
            "expected_wh": int,
            "measured_wh": int,
            "cycles_missing": int,
            "deviated": int,
        },
        pk=("activation_id", "site"),
        foreign_keys=(("activation_id", "activations", "activation_id"), *site_key),
    )
    create(
        db,
        "orders",
        {
            "order_id": str,
            "site": str,
            "kind": str,
            "body": str,
            "valid_from_ms": int,
            "expires_ms": int,
            "actor": str,
            "created_ms": int,
            "sequence": int,
            "problem": str,
        },
        pk="order_id",
        optional=("sequence",),
        foreign_keys=site_key,
    )
    create(
        db,
        "group_limits",
        {
            "limit_id": str,
            "group": str,
            "start_ms": int,
            "end_ms": int,
            "import_limit_w": int,
            "export_limit_w": int,
            "actor": str,
            "created_ms": int,
        },
        pk="limit_id",
    )


def regulations(db: Tables) -> None:
    create(
        db,
        "regulations",
        {
            "regulation_id": str,
            "group": str,
            "service_id": str,
            "service_version": int,
            "service_toml": str,
            "power_w": int,
            "start_ms": int,
            "end_ms": int,
            "actor": str,
            "ended": int,
            "signals": int,
            "scored_ms": int,
            "score": float,
            "correlation": float,
            "delay": float,
            "precision": float,
            "coverage": float,
            "note": str,
        },
        pk="regulation_id",
        optional=("scored_ms", "score", "correlation", "delay", "precision", "coverage"),
    )
    create(
        db,
        "regulation_signals",
        {"regulation_id": str, "at_ms": int, "signal_e6": int},
        pk=("regulation_id", "at_ms"),
        foreign_keys=(("regulation_id", "regulations", "regulation_id"),),
    )
