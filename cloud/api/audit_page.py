"""Who did what: the audit log, newest first."""

import json
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from cloud.api.rendering import Renderer, utc_text
from cloud.api.sessions import page_needs
from cloud.model.access import Permission, Principal
from cloud.model.audit import AuditEntry
from cloud.store.ledger import Ledger

PAGE: Final = 100

Auditor = Annotated[Principal, page_needs(Permission.AUDIT)]


class AuditPage:
    """`router` holds the route."""

    def __init__(self, ledger: Ledger, renderer: Renderer) -> None:
        self._ledger = ledger
        self._renderer = renderer
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/audit", self.audit, methods=["GET"])

    def audit(
        self,
        request: Request,
        person: Auditor,
        before: Annotated[int | None, Query(ge=1)] = None,
        actor: Annotated[str, Query(max_length=100)] = "",
        action: Annotated[str, Query(max_length=100)] = "",
    ) -> Response:
        entries = self._ledger.latest_audit_entries(before=before, actor=actor, action=action, limit=PAGE)
        return self._renderer.page(
            request,
            "audit.html",
            person,
            entries=[(utc_text(entry.at_ms), entry, _detail(entry)) for entry in entries],
            actor=actor,
            action=action,
            older=entries[-1].number if len(entries) == PAGE else None,
        )


def _detail(entry: AuditEntry) -> str:
    return ", ".join(f"{name}: {value}" for name, value in json.loads(entry.detail).items())
