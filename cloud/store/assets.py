"""Groups of sites and how they nest, devices of sites, and tariffs."""

import json
from collections.abc import Mapping, Sequence

from cloud.model.assets import Group, GroupKind, LedgerTariff, Resource, TariffRate
from cloud.store.audit import AuditLog
from cloud.store.errors import LedgerError
from protos import subjects

_SHOWN = 3  # sites named in an error


class Assets(AuditLog):
    """What the registry's sites are grouped in, consist of, and pay."""

    def set_group(self, name: str, kind: GroupKind, parent: str | None, now_ms: int, actor: str) -> Group:
        """Says what a group is, or is from now on. A site that is added to it is then in its parents, too.

        Raises LedgerError for a name that cannot be used, an unknown parent, a circle, and a site of it that is not in
        the parent: a site learns its groups when it enrols.
        """
        try:
            subjects.check_name(name, "group")
        except ValueError as error:
            raise LedgerError(str(error)) from error
        with self.transaction():
            known = {group.name: group for group in self.groups()}
            if parent is not None:
                if parent not in known:
                    raise LedgerError(f"group {name!r}: parent {parent!r} is unknown: add it first, with `group add`")
                if name in (parent, *ancestors(known, parent)):
                    raise LedgerError(f"group {name!r}: {parent!r} is inside it: groups do not stand in a circle")
                members = self._members(name)
                for group in (parent, *ancestors(known, parent)):
                    around = set(self._members(group))
                    if outside := [site for site in members if site not in around]:
                        raise LedgerError(
                            f"group {name!r}: {len(outside)} of its sites are not in {group!r} "
                            f"({', '.join(outside[:_SHOWN])}): choose a parent that has them all"
                        )
            created_ms = known[name].created_ms if name in known else now_ms
            group_now = Group(name=name, kind=kind, parent=parent, created_ms=created_ms)
            self._put("site_groups", "name", group_now)
            self.audit("group.set", actor=actor, subject=name, at_ms=now_ms, kind=kind, parent=parent or "none")
        return group_now

    def remove_group(self, name: str, now_ms: int, actor: str) -> None:
        """Forgets what was said of a group; sites stay in it. Raises LedgerError for a parent, and an unknown one."""
        with self.transaction():
            known = self.groups()
            inside = [group.name for group in known if group.parent == name]
            if inside:
                raise LedgerError(f"group {name!r}: {', '.join(inside[:_SHOWN])} stand inside it: remove them first")
            if name not in {group.name for group in known}:
                raise LedgerError(f"group {name!r}: nothing is said of it: see vpp-cloud group list")
            self._execute("DELETE FROM site_groups WHERE name = ?", (name,))
            self.audit("group.removed", actor=actor, subject=name, at_ms=now_ms)

    def groups(self) -> list[Group]:
        """Those of which anything was said, by name."""
        return self._all(Group, "SELECT * FROM site_groups ORDER BY name")

    def parents(self) -> dict[str, str]:
        """By group: the one it stands in."""
        return {group.name: group.parent for group in self.groups() if group.parent is not None}

    def _members(self, group: str) -> list[str]:
        found = self._execute("SELECT site, groups FROM sites WHERE groups LIKE ? ORDER BY slot", (f'%"{group}"%',))
        return [site for site, groups in found.fetchall() if group in json.loads(groups)]

    def _put_resources(self, site: str, resources: Sequence[Resource]) -> None:
        self._execute("DELETE FROM resources WHERE site = ?", (site,))
        for resource in resources:
            self._insert("resources", resource)

    def resources(self, site: str | None = None) -> list[Resource]:
        """Of a site, or all, by site and name."""
        where, values = ("", ()) if site is None else ("WHERE site = ?", (site,))
        return self._all(Resource, f"SELECT * FROM resources {where} ORDER BY site, name", values)

    def import_tariff(self, tariff: LedgerTariff, rates: Sequence[TariffRate], actor: str) -> None:
        """Adds rates to a tariff, new or not, in place of those of the same instants.

        Raises LedgerError for another currency or interval than it has.
        """
        with self.transaction():
            known = self.tariff(tariff.name)
            if known is None:
                self._insert("tariffs", tariff)
            elif (known.currency, known.interval_ms) != (tariff.currency, tariff.interval_ms):
                raise LedgerError(
                    f"tariff {tariff.name!r}: is in {known.currency} by {known.interval_ms // 1000} s, the rates are "
                    f"in {tariff.currency} by {tariff.interval_ms // 1000} s: give them another name"
                )
            for rate in rates:
                self._execute(
                    "DELETE FROM tariff_rates WHERE tariff = ? AND start_ms = ?", (rate.tariff, rate.start_ms)
                )
                self._insert("tariff_rates", rate)
            first_ms, last_ms = rates[0].start_ms, rates[-1].start_ms
            self.audit(
                "tariff.imported",
                actor=actor,
                subject=tariff.name,
                at_ms=tariff.created_ms,
                rates=len(rates),
                first_ms=first_ms,
                last_ms=last_ms,
            )

    def tariff(self, name: str) -> LedgerTariff | None:
        return self._one(LedgerTariff, "SELECT * FROM tariffs WHERE name = ?", (name,))

    def tariffs(self) -> list[tuple[LedgerTariff, int, int, int]]:
        """Each with the number of its rates, and where the first begins and the last ends [UTC ms]."""
        spans = {
            name: (int(count), int(first), int(last))
            for name, count, first, last in self._execute(
                "SELECT tariff, count(*), min(start_ms), max(start_ms) FROM tariff_rates GROUP BY tariff"
            ).fetchall()
        }
        found = self._all(LedgerTariff, "SELECT * FROM tariffs ORDER BY name")
        return [(one, spans[one.name][0], spans[one.name][1], spans[one.name][2] + one.interval_ms) for one in found]

    def tariff_rates(self, name: str, start_ms: int, end_ms: int) -> list[TariffRate]:
        """Those that touch [start_ms, end_ms), in order."""
        return self._all(
            TariffRate,
            "SELECT rates.* FROM tariff_rates rates JOIN tariffs ON tariffs.name = rates.tariff "
            "WHERE rates.tariff = ? AND rates.start_ms < ? AND rates.start_ms + tariffs.interval_ms > ? "
            "ORDER BY rates.start_ms",
            (name, end_ms, start_ms),
        )


def ancestors(groups: Mapping[str, Group], name: str) -> list[str]:
    """The groups that a group stands in, the nearest first."""
    found: list[str] = []
    group = groups.get(name)
    while group is not None and group.parent is not None:
        found.append(group.parent)
        group = groups.get(group.parent)
    return found
