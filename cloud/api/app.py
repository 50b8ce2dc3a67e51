"""The console and its API as one web application."""

import datetime as dt
import time
from collections.abc import Callable
from http import HTTPStatus

import argon2
from fastapi import FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from cloud.api.access import Access
from cloud.api.account_pages import AccountPages
from cloud.api.accounts import Accounts
from cloud.api.audit_page import AuditPage
from cloud.api.data import API_PREFIX, data_router
from cloud.api.dispatch_calls import dispatch_router
from cloud.api.dispatch_page import DispatchPage
from cloud.api.emergency import Emergency, SendStop
from cloud.api.live import Live
from cloud.api.pages import Pages
from cloud.api.passwords import Passwords
from cloud.api.people_page import PeoplePage
from cloud.api.rendering import Renderer
from cloud.api.security import SecurityMiddleware
from cloud.api.sessions import LOG_IN_PATH, CallViewer, LogInNeeded, PermissionNeeded
from cloud.console import assets
from cloud.identity.sealing import Sealer
from cloud.store.errors import LedgerUnavailable
from cloud.store.ledger import Ledger


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def create_app(
    ledger: Ledger,
    live: Live,
    sealer: Sealer,
    send_stop: SendStop,
    *,
    allow_password_only: bool = False,
    now: Callable[[], dt.datetime] = utc_now,
    monotonic_s: Callable[[], float] = time.monotonic,
    hasher: argon2.PasswordHasher | None = None,
) -> FastAPI:
    """The application; `cloud.api.serve.serve` runs it together with `live`.

    Pages need a session, the API under /api/v1 a session or a token, and both the permission that each names; the
    log-in and static files need neither.
    send_stop: tells sites and groups of an emergency stop.
    sealer: keeps second factors. allow_password_only: roles are in force without one.
    hasher: argon2's parameters; its recommended ones unless given.
    """
    access = Access(
        ledger,
        sealer,
        Passwords(hasher or argon2.PasswordHasher()),
        now=now,
        monotonic_s=monotonic_s,
        allow_password_only=allow_password_only,
    )

    def now_ms() -> int:
        return round(now().timestamp() * 1000)

    emergency = Emergency(ledger, send_stop)
    accounts = Accounts(ledger, sealer, now=now)
    renderer = Renderer()
    app = FastAPI(title="Murmuration console", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.access = access
    app.state.accounts = accounts
    app.state.live = live
    for part in (
        Pages(access, live.broadcaster, renderer),
        AccountPages(access, accounts, renderer),
        DispatchPage(ledger, live, emergency, renderer, now_ms),
        PeoplePage(ledger, accounts, renderer),
        AuditPage(ledger, renderer),
    ):
        app.include_router(part.router)
    for calls in (data_router(ledger, live), dispatch_router(ledger, emergency, now_ms)):
        app.include_router(calls, prefix=API_PREFIX)

    @app.get("/events", include_in_schema=False)
    async def events(caller: CallViewer) -> StreamingResponse:
        """Everything that changes, as server-sent events."""
        if caller.session is None:
            raise HTTPException(HTTPStatus.FORBIDDEN, f"the stream is the console's own: programs ask {API_PREFIX}")
        session_hash = caller.session.session_hash
        return StreamingResponse(
            live.broadcaster.stream(session_hash, lambda: access.session_valid(session_hash)),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},  # a proxy in between passes each event on at once
        )

    @app.get(f"{API_PREFIX}/openapi.json", include_in_schema=False)
    async def openapi(_: CallViewer) -> dict[str, object]:
        return app.openapi()

    @app.get("/static/vendor/{name}", include_in_schema=False)
    async def vendor(name: str) -> FileResponse:
        path = assets.PACKAGES / assets.VENDOR.get(name, "none")
        if name not in assets.VENDOR or not path.is_file():
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return FileResponse(path)

    app.mount("/static", StaticFiles(directory=assets.STATIC))

    @app.exception_handler(LogInNeeded)
    async def to_log_in(request: Request, _: Exception) -> Response:
        return RedirectResponse(LOG_IN_PATH, HTTPStatus.SEE_OTHER)

    @app.exception_handler(PermissionNeeded)
    async def not_allowed(request: Request, error: Exception) -> Response:
        if _wants_page(request):
            return renderer.message(request, HTTPStatus.FORBIDDEN, f"{str(error).capitalize()}.")
        return await http_exception_handler(request, HTTPException(HTTPStatus.FORBIDDEN, str(error)))

    @app.exception_handler(LedgerUnavailable)
    async def no_ledger(request: Request, _: Exception) -> Response:
        text = "The ledger does not answer at the moment."
        if _wants_page(request):
            return renderer.message(request, HTTPStatus.SERVICE_UNAVAILABLE, text)
        return await http_exception_handler(request, HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, text))

    @app.exception_handler(StarletteHTTPException)
    async def http_error(request: Request, error: StarletteHTTPException) -> Response:
        if _wants_page(request):
            return renderer.message(request, HTTPStatus(error.status_code), "There is nothing here.")
        return await http_exception_handler(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if _wants_page(request):
            return renderer.message(request, HTTPStatus.UNPROCESSABLE_ENTITY, "The form was not complete.")
        return await request_validation_exception_handler(request, error)

    app.add_middleware(SecurityMiddleware, cacheable=("/static/",))
    return app


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith((API_PREFIX, "/static/", "/events"))
