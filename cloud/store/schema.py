"""The ledger's tables as numbered migrations. A migration that was released is never changed; add the next one."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from cloud.store.engine import Tables
from cloud.store.migrations import assets, operation, security, trading

MIGRATIONS: Final[tuple[Callable[[Tables], None], ...]] = (
    trading.registry_and_trades,
    trading.claims_name_their_user,
    security.audit_log,
    security.revocations,
    security.broadcast_sequences,
    security.accounts,
    trading.concentrators,
    security.terms,
    security.moves,
    trading.remote_configurations,
    trading.gateways_are_known_by_their_keys,
    operation.updates,
    security.approvals,
    operation.dispatch,
    security.changes_of_limits_are_asked,
    assets.thinned_frames,
    security.guard_states,
    assets.groups_resources_and_tariffs,
    operation.regulations,
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
