"""The ledger's tables as numbered migrations. A migration that was released is never changed; add the next one."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from cloud.store.engine import Tables


def _create(
    db: Tables,
    name: str,
    columns: dict[str, Any],
    pk: str | tuple[str, ...],
    *,
    optional: tuple[str, ...] = (),
    foreign_keys: tuple[tuple[str, str, str], ...] = (),
) -> None:
    """A strict table in which every column that is not `optional` must have a value."""
    required = set(columns) - set(optional)
    db.create_table(name, columns, pk=pk, not_null=required, foreign_keys=foreign_keys, strict=True)


def _registry_and_trades(db: Tables) -> None:
    site_key = (("site", "sites", "site"),)
    _create(
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
    _create(
        db,
        "claims",
        {"token_hash": str, "site": str, "created_ms": int, "expires_ms": int, "used_ms": int},
        pk="token_hash",
        optional=("used_ms",),
        foreign_keys=site_key,
    )
    _create(
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
    _create(
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
    _create(
        db,
        "stream_offsets",
        {"stream": str, "created_ns": int, "last_sequence": int},
        pk="stream",
    )
    _create(
        db,
        "plans",
        {"plan_id": str, "created_ms": int, "start_ms": int, "mtu_s": int, "sites": str},
        pk="plan_id",
    )
    _create(
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
    _create(
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
    _create(
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
    _create(
        db,
        "award_shares",
        {"award_id": str, "site": str, "contracted_w": int},
        pk=("award_id", "site"),
        foreign_keys=(("award_id", "awards", "award_id"), *site_key),
    )
    _create(
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
    _create(
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
    _create(
        db,
        "users",
        {"username": str, "password_hash": str, "roles": str, "created_ms": int},
        pk="username",
        optional=("password_hash",),
    )
    user_key = (("username", "users", "username"),)
    _create(
        db,
        "log_in_sessions",
        {"session_hash": str, "username": str, "created_ms": int, "expires_ms": int},
        pk="session_hash",
        foreign_keys=user_key,
    )
    _create(
        db,
        "log_in_tokens",
        {"token_hash": str, "username": str, "created_ms": int, "expires_ms": int, "used_ms": int},
        pk="token_hash",
        optional=("used_ms",),
        foreign_keys=user_key,
    )


def _claims_name_their_user(db: Tables) -> None:
    db.table("claims").add_column("used_by", str)


def _audit_log(db: Tables) -> None:
    _create(
        db,
        "audit_entries",
        {
            "number": int,
            "at_ms": int,
            "actor": str,
            "action": str,
            "subject": str,
            "detail": str,
            "previous_hash": str,
            "entry_hash": str,
        },
        pk="number",
    )
    _create(
        db,
        "audit_checkpoints",
        {"number": int, "entry_hash": str, "at_ms": int, "key_id": str, "signature": str},
        pk="number",
    )
    for table in ("audit_entries", "audit_checkpoints"):
        db.append_only(table)


def _revocations(db: Tables) -> None:
    site_key = (("site", "sites", "site"),)
    db.table("sites").add_column("revoked_ms", int)
    db.table("sites").add_column("revoked_reason", str)
    _create(
        db,
        "nats_keys",
        {"nats_public_key": str, "site": str, "issued_ms": int, "expires_ms": int},
        pk="nats_public_key",
        foreign_keys=site_key,
    )
    db.table("nats_keys").create_index(["site"])
    _create(
        db,
        "revocations",
        {"nats_public_key": str, "site": str, "revoked_ms": int, "expires_ms": int, "reason": str},
        pk="nats_public_key",
        foreign_keys=site_key,
    )


def _broadcast_sequences(db: Tables) -> None:
    _create(db, "broadcast_sequences", {"group": str, "bound": int}, pk="group")


def _accounts(db: Tables) -> None:
    for column in ("disabled_ms", "totp_confirmed_ms", "totp_last_step"):
        db.table("users").add_column(column, int)
    db.table("users").add_column("totp_secret", str)
    # Before there were roles the one kind of user could do everything.
    db.execute("""UPDATE users SET roles = '["admin"]' WHERE roles = '["operator"]'""")
    _create(
        db,
        "api_tokens",
        {
            "token_hash": str,
            "name": str,
            "scopes": str,
            "created_by": str,
            "created_ms": int,
            "expires_ms": int,
            "revoked_ms": int,
            "used_ms": int,
        },
        pk="token_hash",
        optional=("revoked_ms", "used_ms"),
    )
    db.table("api_tokens").create_index(["name"], unique=True)


def _concentrators(db: Tables) -> None:
    db.table("sites").add_column("concentrator", str)
    db.table("sites").create_index(["concentrator"])


def _terms(db: Tables) -> None:
    _create(
        db,
        "terms",
        {"term": int, "holder": str, "bucket_created_ms": int, "revision": int, "began_ms": int},
        pk="term",
    )


def _moves(db: Tables) -> None:
    _create(db, "moves", {"number": int, "place": str, "at_ms": int}, pk="number")


def _remote_configurations(db: Tables) -> None:
    db.table("sites").add_column("remote_revision", int)
    db.table("sites").add_column("remote_toml", str)


def _gateways_are_known_by_their_keys(db: Tables) -> None:
    db.table("sites").add_column("gateway_keys", str)
    db.table("claims").add_column("requests", str)


def _updates(db: Tables) -> None:
    _create(
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
    _create(
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


def _approvals(db: Tables) -> None:
    _create(
        db,
        "approvals",
        {
            "number": int,
            "area": str,
            "from_w": float,
            "to_w": float,
            "reason": str,
            "asked_by": str,
            "asked_ms": int,
            "granted_by": str,
            "granted_ms": int,
            "denied_by": str,
            "denied_ms": int,
            "used_ms": int,
        },
        pk="number",
        optional=("granted_by", "granted_ms", "denied_by", "denied_ms", "used_ms"),
    )


def _dispatch(db: Tables) -> None:
    site_key = (("site", "sites", "site"),)
    _create(
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
    _create(
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
    _create(
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
    _create(
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


def _changes_of_limits_are_asked(db: Tables) -> None:
    db.table("approvals").add_column("limits", str)
    db.table("approvals").add_column("change", str)
    db.table("audit_entries").create_index(["action", "number"])  # the limits in force are looked for there


MIGRATIONS: Final[tuple[Callable[[Tables], None], ...]] = (
    _registry_and_trades,
    _claims_name_their_user,
    _audit_log,
    _revocations,
    _broadcast_sequences,
    _accounts,
    _concentrators,
    _terms,
    _moves,
    _remote_configurations,
    _gateways_are_known_by_their_keys,
    _updates,
    _approvals,
    _dispatch,
    _changes_of_limits_are_asked,
)
"""Migration i brings schema i to i + 1; the database holds the number of those applied."""


class _Names:
    """Takes a migration's tables for their names."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def execute(self, sql: str) -> None: ...

    def table(self, name: str, /) -> "_Names":
        return self

    def add_column(self, name: str, kind: type, /) -> None: ...

    def create_index(self, columns: Sequence[str], *, unique: bool = False) -> None: ...

    def create_table(
        self,
        name: str,
        columns: dict[str, Any],
        pk: str | tuple[str, ...],
        *,
        not_null: set[str],
        foreign_keys: Sequence[tuple[str, str, str]],
        strict: bool,
    ) -> None:
        self.made.append(name)

    def append_only(self, table: str) -> None: ...


def table_names() -> list[str]:
    """Every table, each after those that its keys refer to."""
    names = _Names()
    for migration in MIGRATIONS:
        migration(names)
    return names.made
