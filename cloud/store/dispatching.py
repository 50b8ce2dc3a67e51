"""Activations, orders to sites and limits of groups."""

from collections.abc import Sequence
from typing import Final

from cloud.model.dispatch import SOURCES, Activation, ActivationSite, ActivationState, GroupLimit, Order
from cloud.store.audit import AuditLog
from cloud.store.errors import LedgerError
from cloud.store.rows import to_row
from protos import subjects

LONGEST_MS = 24 * 3600 * 1000
_AMOUNTS: Final = ("expected_wh", "measured_wh", "cycles_missing")


class DispatchBook(AuditLog):
    """What is asked of groups and sites, by whom, and what came of it."""

    def check_activation(self, activation: Activation) -> None:
        """Raises LedgerError for a group without sites, times that cannot be, or one that the group has already."""
        told = f"activation of {activation.group!r}"
        if activation.source not in SOURCES:
            raise LedgerError(f"{told}: source {activation.source!r}: one of {', '.join(SOURCES)}")
        if not 0 < activation.end_ms - activation.start_ms <= LONGEST_MS:
            raise LedgerError(f"{told}: give it more than nothing and at most 24 hours")
        if activation.end_ms <= activation.created_ms:
            raise LedgerError(f"{told}: it would be over already")
        self._check_group(activation.group)
        for other in self.activations(ActivationState.ASKED, ActivationState.ACTIVE):
            at_once = other.start_ms < activation.end_ms and activation.start_ms < other.end_ms
            if other.group == activation.group and at_once:
                raise LedgerError(
                    f"{told}: {other.activation_id} is in its way; end it with "
                    f"`vpp-cloud dispatch end {other.activation_id}`"
                )

    def add_activation(self, activation: Activation) -> None:
        """Raises LedgerError as `check_activation` does."""
        with self.transaction():
            self.check_activation(activation)
            self._insert("activations", activation)
            self.audit(
                "activation.asked",
                actor=activation.actor,
                subject=activation.group,
                at_ms=activation.created_ms,
                activation=activation.activation_id,
                target_w=activation.target_w,
                start_ms=activation.start_ms,
                end_ms=activation.end_ms,
                source=activation.source,
                reason=activation.reason,
            )

    def activations(self, *states: ActivationState, limit: int = 200) -> list[Activation]:
        """Activations in some states, or all, newest first."""
        wanted = [str(state) for state in states or tuple(ActivationState)]
        marks = ", ".join("?" for _ in wanted)
        return self._all(
            Activation,
            f"SELECT * FROM activations WHERE state IN ({marks}) ORDER BY created_ms DESC, activation_id LIMIT ?",
            [*wanted, limit],
        )

    def activation(self, activation_id: str) -> Activation | None:
        return self._one(Activation, "SELECT * FROM activations WHERE activation_id = ?", (activation_id,))

    def end_activation(self, activation_id: str, now_ms: int, actor: str) -> None:
        """Raises LedgerError for one that is unknown or over."""
        with self.transaction():
            known = self.activation(activation_id)
            if known is None:
                raise LedgerError(f"activation {activation_id!r} is unknown: see vpp-cloud dispatch status")
            if known.state not in (ActivationState.ASKED, ActivationState.ACTIVE) or known.end_ms <= now_ms:
                raise LedgerError(f"activation {activation_id} is over already")
            self._execute("UPDATE activations SET end_ms = ? WHERE activation_id = ?", (now_ms, activation_id))
            self.audit("activation.ended", actor=actor, subject=known.group, at_ms=now_ms, activation=activation_id)

    def put_activation(self, activation: Activation, now_ms: int) -> None:
        """Keeps how far an activation has come."""
        with self.transaction():
            self._put("activations", "activation_id", activation)
            self.audit(
                f"activation.{activation.state}",
                actor="coordinator",
                subject=activation.group,
                at_ms=now_ms,
                activation=activation.activation_id,
                note=activation.note,
                measured_wh=activation.measured_wh,
            )

    def add_activation_sites(self, parts: Sequence[ActivationSite]) -> None:
        """Adds to sites' parts of an activation: a site that went from one worker to another has been with both."""
        with self.transaction():
            for part in parts:
                row = to_row(part)
                self._execute(
                    f"INSERT INTO activation_sites ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)}) "  # nosec B608: names of columns
                    "ON CONFLICT (activation_id, site) DO UPDATE SET deviated = excluded.deviated, "
                    + ", ".join(f"{name} = activation_sites.{name} + excluded.{name}" for name in _AMOUNTS),
                    row,
                )

    def activation_sites(self, activation_id: str) -> list[ActivationSite]:
        return self._all(
            ActivationSite, "SELECT * FROM activation_sites WHERE activation_id = ? ORDER BY site", (activation_id,)
        )

    def add_order(self, order: Order) -> None:
        """Raises LedgerError for an unknown site or kind."""
        if order.kind not in subjects.INTENT_KINDS:
            raise LedgerError(f"order of kind {order.kind!r}: one of {', '.join(subjects.INTENT_KINDS)}")
        with self.transaction():
            if self._execute("SELECT 1 FROM sites WHERE site = ?", (order.site,)).fetchone() is None:
                raise LedgerError(f"site {order.site!r} is unknown: see vpp-cloud site list")
            self._insert("orders", order)
            self.audit(
                "order.given",
                actor=order.actor,
                subject=order.site,
                at_ms=order.created_ms,
                order=order.order_id,
                kind=order.kind,
                body=order.body,
            )

    def orders(self, *, waiting: bool = False, limit: int = 200) -> list[Order]:
        """Orders, newest first, or those that wait to be sent, oldest first."""
        if waiting:
            where, order = "WHERE sequence IS NULL AND problem = ''", "created_ms, order_id"
        else:
            where, order = "", "created_ms DESC, order_id"
        return self._all(Order, f"SELECT * FROM orders {where} ORDER BY {order} LIMIT ?", (limit,))

    def set_order(self, order_id: str, *, sequence: int | None = None, problem: str = "") -> None:
        """The order was sent under a sequence, or cannot be."""
        self._execute("UPDATE orders SET sequence = ?, problem = ? WHERE order_id = ?", (sequence, problem, order_id))

    def add_group_limit(self, limit: GroupLimit) -> None:
        """In force over what was given before for the same group and time. Raises LedgerError."""
        if not limit.end_ms - limit.start_ms > 0:
            raise LedgerError(f"limit of {limit.group!r}: it ends before it begins")
        with self.transaction():
            self._check_group(limit.group)
            self._insert("group_limits", limit)
            self.audit(
                "limit.given",
                actor=limit.actor,
                subject=limit.group,
                at_ms=limit.created_ms,
                limit=limit.limit_id,
                start_ms=limit.start_ms,
                end_ms=limit.end_ms,
                import_limit_w=limit.import_limit_w,
                export_limit_w=limit.export_limit_w,
            )

    def group_limits(self, at_ms: int) -> dict[str, GroupLimit]:
        """What is in force then, by group: the one that was given last."""
        found = self._all(
            GroupLimit,
            "SELECT * FROM group_limits WHERE start_ms <= ? AND end_ms > ? ORDER BY created_ms, limit_id",
            (at_ms, at_ms),
        )
        return {limit.group: limit for limit in found}

    def _check_group(self, group: str) -> None:
        try:
            subjects.check_name(group, "group")
        except ValueError as error:
            raise LedgerError(str(error)) from error
        found = self._execute("SELECT 1 FROM sites WHERE groups LIKE ?", (f'%"{group}"%',)).fetchone()
        if found is None:
            raise LedgerError(f"group {group!r} has no site: see vpp-cloud site list")
