"""How a migration makes a table."""

from typing import Any

from cloud.store.engine import Tables


def create(
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
