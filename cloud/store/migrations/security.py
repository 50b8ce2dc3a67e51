"""The audit log, revocations, accounts and approvals, who leads and where the ledger is."""

from cloud.store.engine import Tables
from cloud.store.migrations.table import create


def audit_log(db: Tables) -> None:
    create(
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
    create(
        db,
        "audit_checkpoints",
        {"number": int, "entry_hash": str, "at_ms": int, "key_id": str, "signature": str},
        pk="number",
    )
    for table in ("audit_entries", "audit_checkpoints"):
        db.append_only(table)


def revocations(db: Tables) -> None:
    site_key = (("site", "sites", "site"),)
    db.table("sites").add_column("revoked_ms", int)
    db.table("sites").add_column("revoked_reason", str)
    create(
        db,
        "nats_keys",
        {"nats_public_key": str, "site": str, "issued_ms": int, "expires_ms": int},
        pk="nats_public_key",
        foreign_keys=site_key,
    )
    db.table("nats_keys").create_index(["site"])
    create(
        db,
        "revocations",
        {"nats_public_key": str, "site": str, "revoked_ms": int, "expires_ms": int, "reason": str},
        pk="nats_public_key",
        foreign_keys=site_key,
    )


def broadcast_sequences(db: Tables) -> None:
    create(db, "broadcast_sequences", {"group": str, "bound": int}, pk="group")


def accounts(db: Tables) -> None:
    for column in ("disabled_ms", "totp_confirmed_ms", "totp_last_step"):
        db.table("users").add_column(column, int)
    db.table("users").add_column("totp_secret", str)
    # Before there were roles the one kind of user could do everything.
    db.execute("""UPDATE users SET roles = '["admin"]' WHERE roles = '["operator"]'""")
    create(
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


def terms(db: Tables) -> None:
    create(
        db,
        "terms",
        {"term": int, "holder": str, "bucket_created_ms": int, "revision": int, "began_ms": int},
        pk="term",
    )


def moves(db: Tables) -> None:
    create(db, "moves", {"number": int, "place": str, "at_ms": int}, pk="number")


def approvals(db: Tables) -> None:
    create(
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


def changes_of_limits_are_asked(db: Tables) -> None:
    db.table("approvals").add_column("limits", str)
    db.table("approvals").add_column("change", str)
    db.table("audit_entries").create_index(["action", "number"])  # the limits in force are looked for there


def guard_states(db: Tables) -> None:
    create(db, "guard_states", {"sender": str, "name": str, "state": str}, pk=("sender", "name"))
