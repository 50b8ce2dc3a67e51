"""Registry, intents, events, plans and trades, and what was added to the registry later."""

from cloud.store.engine import Tables
from cloud.store.migrations.table import create


def registry_and_trades(db: Tables) -> None:
    site_key = (("site", "sites", "site"),)
    create(
        db,
        "sites",
        {
            "site": str,
            "slot": int,
            "groups": str,
            "created_ms": int,
            "enrolled_ms": int,
            "description": str,
        },
        pk="site",
        optional=("enrolled_ms", "description"),
    )
    db.table("sites").create_index(["slot"], unique=True)
    create(
        db,
        "claims",
        {"token_hash": str, "site": str, "created_ms": int, "expires_ms": int, "used_ms": int},
        pk="token_hash",
        optional=("used_ms",),
        foreign_keys=site_key,
    )
    create(
        db,
        "intents",
        {
            "site": str,
            "kind": str,
            "sequence": int,
            "issued_ms": int,
            "valid_from_ms": int,
            "expires_ms": int,
            "body": str,
            "state": str,
            "reason": str,
            "updated_ms": int,
        },
        pk=("site", "kind", "sequence"),
        foreign_keys=site_key,
    )
    create(
        db,
        "events",
        {
            "number": int,
            "site": str,
            "event_id": str,
            "at_ms": int,
            "severity": str,
            "code": str,
            "text": str,
        },
        pk="number",
        optional=("site",),
    )
    # An expression, because SQLite takes every NULL for another one and the coordinator's own events have no site.
    db.execute("CREATE UNIQUE INDEX events_once ON events (coalesce(site, ''), event_id)")
    create(
        db,
        "stream_offsets",
        {"stream": str, "created_ns": int, "last_sequence": int},
        pk="stream",
    )
    create(
        db,
        "plans",
        {"plan_id": str, "created_ms": int, "start_ms": int, "mtu_s": int, "sites": str},
        pk="plan_id",
    )
    create(
        db,
        "market_sessions",
        {
            "session_id": str,
            "gate_closure_ms": int,
            "delivery_start_ms": int,
            "delivery_end_ms": int,
            "stage": str,
            "plan_id": str,
        },
        pk="session_id",
        optional=("plan_id",),
        foreign_keys=(("plan_id", "plans", "plan_id"),),
    )
    create(
        db,
        "offers",
        {
            "offer_id": str,
            "session_id": str,
            "product": str,
            "service_id": str,
            "group": str,
            "power_w": int,
            "price_per_mw_h": str,
            "currency": str,
            "created_ms": int,
        },
        pk="offer_id",
        foreign_keys=(("session_id", "market_sessions", "session_id"),),
    )
    create(
        db,
        "awards",
        {
            "award_id": str,
            "session_id": str,
            "offer_id": str,
            "product": str,
            "service_id": str,
            "service_toml": str,
            "group": str,
            "power_w": int,
            "clearing_price_per_mw_h": str,
            "currency": str,
            "delivery_start_ms": int,
            "delivery_end_ms": int,
            "state": str,
        },
        pk="award_id",
        foreign_keys=(("session_id", "market_sessions", "session_id"), ("offer_id", "offers", "offer_id")),
    )
    create(
        db,
        "award_shares",
        {"award_id": str, "site": str, "contracted_w": int},
        pk=("award_id", "site"),
        foreign_keys=(("award_id", "awards", "award_id"), *site_key),
    )
    create(
        db,
        "settlements",
        {
            "award_id": str,
            "settled_ms": int,
            "currency": str,
            "capacity_amount": str,
            "energy_amount": str,
            "total_amount": str,
        },
        pk="award_id",
        foreign_keys=(("award_id", "awards", "award_id"),),
    )
    create(
        db,
        "settlement_lines",
        {
            "award_id": str,
            "site": str,
            "contracted_w": int,
            "capacity_wh": int,
            "performance_error": float,
            "performance_factor": str,
            "delivered": int,
            "samples": int,
            "samples_missing": int,
            "energy_wh": int,
            "capacity_amount": str,
            "energy_amount": str,
            "total_amount": str,
        },
        pk=("award_id", "site"),
        foreign_keys=(("award_id", "settlements", "award_id"), *site_key),
    )
    create(
        db,
        "users",
        {"username": str, "password_hash": str, "roles": str, "created_ms": int},
        pk="username",
        optional=("password_hash",),
    )
    user_key = (("username", "users", "username"),)
    create(
        db,
        "log_in_sessions",
        {"session_hash": str, "username": str, "created_ms": int, "expires_ms": int},
        pk="session_hash",
        foreign_keys=user_key,
    )
    create(
        db,
        "log_in_tokens",
        {"token_hash": str, "username": str, "created_ms": int, "expires_ms": int, "used_ms": int},
        pk="token_hash",
        optional=("used_ms",),
        foreign_keys=user_key,
    )


def claims_name_their_user(db: Tables) -> None:
    db.table("claims").add_column("used_by", str)


def concentrators(db: Tables) -> None:
    db.table("sites").add_column("concentrator", str)
    db.table("sites").create_index(["concentrator"])


def remote_configurations(db: Tables) -> None:
    db.table("sites").add_column("remote_revision", int)
    db.table("sites").add_column("remote_toml", str)


def gateways_are_known_by_their_keys(db: Tables) -> None:
    db.table("sites").add_column("gateway_keys", str)
    db.table("claims").add_column("requests", str)
