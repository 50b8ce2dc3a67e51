"""Updates that were published, which site is to have which, and how far each has come."""

from collections.abc import Iterable

from cloud.model.records import SiteUpdate, Update
from cloud.store.audit import AuditLog
from cloud.store.errors import LedgerError


class Updates(AuditLog):
    """One update of a kind and name is a site's at a time: the one that was ordered last."""

    def add_update(self, update: Update, actor: str) -> bool:
        """Whether it is new: the same manifest is published once."""
        with self.transaction():
            if self.update(update.digest) is not None:
                return False
            self._insert("updates", update)
            self.audit(
                "update.published",
                actor=actor,
                subject=f"{update.kind}/{update.name}",
                at_ms=update.published_ms,
                version=update.version,
                manifest_sha256=update.digest,
                key_id=update.key_id,
            )
        return True

    def update(self, digest: str) -> Update | None:
        return self._one(Update, "SELECT * FROM updates WHERE digest = ?", (digest,))

    def updates(self) -> list[Update]:
        """All of them, the newest first."""
        return self._all(Update, "SELECT * FROM updates ORDER BY published_ms DESC, digest")

    def order_update(self, update: Update, sites: Iterable[str], now_ms: int, actor: str) -> list[str]:
        """Gives the update to sites; those that did not have it. Raises LedgerError for an unknown site."""
        fresh = []
        with self.transaction():
            for site in dict.fromkeys(sites):
                if self._execute("SELECT 1 FROM sites WHERE site = ?", (site,)).fetchone() is None:
                    raise LedgerError(f"site {site!r} is unknown: see vpp-cloud site list")
                before = self.site_update(site, update.kind, update.name)
                if before is not None and before.digest == update.digest:
                    continue
                key = (site, update.kind, update.name)
                self._execute("DELETE FROM site_updates WHERE site = ? AND kind = ? AND name = ?", key)
                self._insert(
                    "site_updates",
                    SiteUpdate(
                        site=site,
                        kind=update.kind,
                        name=update.name,
                        digest=update.digest,
                        ordered_ms=now_ms,
                        updated_ms=now_ms,
                    ),
                )
                fresh.append(site)
            if fresh:
                self.audit(
                    "update.ordered",
                    actor=actor,
                    subject=f"{update.kind}/{update.name}",
                    at_ms=now_ms,
                    version=update.version,
                    manifest_sha256=update.digest,
                    sites=",".join(fresh),
                )
        return fresh

    def site_update(self, site: str, kind: str, name: str) -> SiteUpdate | None:
        return self._one(
            SiteUpdate, "SELECT * FROM site_updates WHERE site = ? AND kind = ? AND name = ?", (site, kind, name)
        )

    def site_updates(self, site: str | None = None) -> list[SiteUpdate]:
        """Of one site, or of all."""
        return self._all(
            SiteUpdate,
            "SELECT * FROM site_updates WHERE (:site IS NULL OR site = :site) ORDER BY site, kind, name",
            {"site": site},
        )

    def updates_of(self, site: str) -> list[Update]:
        """What a site is to install."""
        return self._all(
            Update,
            "SELECT u.* FROM updates u JOIN site_updates s ON s.digest = u.digest WHERE s.site = ? "
            "ORDER BY u.kind, u.name",
            (site,),
        )

    def set_update_state(self, known: SiteUpdate, state: str, reason: str, now_ms: int) -> bool:
        """Whether that is news. What a site refuses or gives up is in the audit log."""
        if (known.state, known.reason) == (state, reason):
            return False
        with self.transaction():
            self._execute(
                "UPDATE site_updates SET state = ?, reason = ?, updated_ms = ? "
                "WHERE site = ? AND kind = ? AND name = ?",
                (state, reason, now_ms, known.site, known.kind, known.name),
            )
            if state in ("refused", "rolled_back", "healthy"):
                self.audit(
                    f"update.{state}",
                    actor=f"site:{known.site}",
                    subject=known.site,
                    at_ms=now_ms,
                    kind=known.kind,
                    name=known.name,
                    manifest_sha256=known.digest,
                    reason=reason,
                )
        return True
