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
from cloud.api.data import API_PREFIX, data_router
from cloud.api.live import Live
from cloud.api.pages import Pages
from cloud.api.security import SecurityMiddleware
from cloud.api.sessions import LOG_IN_PATH, CallSession, LogInNeeded
from cloud.console import assets
from cloud.store.ledger import Ledger


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def create_app(
    ledger: Ledger,
    live: Live,
    *,
    now: Callable[[], dt.datetime] = utc_now,
    monotonic_s: Callable[[], float] = time.monotonic,
    hasher: argon2.PasswordHasher | None = None,
) -> FastAPI:
    """The application; `cloud.api.serve.serve` runs it together with `live`.

    Pages and the API under /api/v1 need a session, the log-in and static files do not.
    hasher: argon2's parameters; its recommended ones unless given.
    """
    access = Access(ledger, now=now, monotonic_s=monotonic_s, hasher=hasher or argon2.PasswordHasher())
    pages = Pages(access, live.broadcaster)
    app = FastAPI(title="Murmuration console", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.access = access
    app.state.live = live
    app.include_router(pages.router)
    app.include_router(data_router(ledger, live), prefix=API_PREFIX)

    @app.get("/events", include_in_schema=False)
    async def events(session: CallSession) -> StreamingResponse:
        """Everything that changes, as server-sent events."""
        session_hash = session.session_hash
        return StreamingResponse(
            live.broadcaster.stream(session_hash, lambda: access.session_valid(session_hash)),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},  # a proxy in between passes each event on at once
        )

    @app.get(f"{API_PREFIX}/openapi.json", include_in_schema=False)
    async def openapi(_: CallSession) -> dict[str, object]:
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

    @app.exception_handler(StarletteHTTPException)
    async def http_error(request: Request, error: StarletteHTTPException) -> Response:
        if _wants_page(request):
            return pages.message(request, HTTPStatus(error.status_code), "There is nothing here.")
        return await http_exception_handler(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if _wants_page(request):
            return pages.message(request, HTTPStatus.UNPROCESSABLE_ENTITY, "The form was not complete.")
        return await request_validation_exception_handler(request, error)

    app.add_middleware(SecurityMiddleware, cacheable=("/static/",))
    return app


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith((API_PREFIX, "/static/", "/events"))
