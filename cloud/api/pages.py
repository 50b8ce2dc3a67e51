"""The console's HTML pages."""

import logging
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from starlette.concurrency import run_in_threadpool

from cloud.api.access import FIRST_USER, PASSWORD_MIN, Access, AccessRefused, LinkSpent, LockedOut
from cloud.api.sessions import LOG_IN_PATH, PageSession, delete_cookie, find_session, set_cookie
from cloud.api.stream import Broadcaster
from cloud.console import assets

log = logging.getLogger(__name__)

Field = Annotated[str, Form(max_length=4096)]


class Pages:
    """Renders the pages; `router` holds their routes."""

    def __init__(self, access: Access, broadcaster: Broadcaster) -> None:
        self._access = access
        self._broadcaster = broadcaster
        self._templates = Jinja2Templates(directory=assets.TEMPLATES)
        self._assets_were_missing = False
        self.router = APIRouter(include_in_schema=False)
        add = self.router.add_api_route
        add("/", self.live, methods=["GET"])
        add(LOG_IN_PATH, self.log_in_form, methods=["GET"])
        add(LOG_IN_PATH, self.log_in, methods=["POST"])
        add("/log-out", self.log_out, methods=["POST"])
        add("/welcome/{token}", self.welcome_form, methods=["GET"])
        add("/welcome/{token}", self.welcome, methods=["POST"])

    def live(self, request: Request, session: PageSession) -> Response:
        """What the fleet does now."""
        missing = assets.missing()
        if missing:
            if not self._assets_were_missing:
                log.error("%s (first missing: %s)", assets.MISSING_TEXT, missing[0])
            self._assets_were_missing = True
            return self.message(request, HTTPStatus.SERVICE_UNAVAILABLE, assets.MISSING_TEXT)
        self._assets_were_missing = False
        return self._render(request, "live.html", username=session.username)

    async def log_in_form(self, request: Request) -> Response:
        if await find_session(request) is not None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        return await run_in_threadpool(self._log_in_page, request)

    def log_in(self, request: Request, username: Field, password: Field) -> Response:
        address = _address(request)
        try:
            opened = self._access.log_in(username, password, address)
        except LockedOut as refusal:
            log.warning("log-in locked out: address=%s for_s=%.0f", address, refusal.locked_for_s)
            response = self._log_in_page(request, HTTPStatus.TOO_MANY_REQUESTS, username, str(refusal))
            response.headers["Retry-After"] = str(int(refusal.locked_for_s) + 1)
            return response
        except AccessRefused as refusal:
            log.warning("log-in refused: address=%s", address)
            return self._log_in_page(request, HTTPStatus.UNAUTHORIZED, username, str(refusal))
        return self._logged_in(request, opened.secret)

    async def log_out(self, request: Request, session: PageSession) -> Response:
        await run_in_threadpool(self._access.log_out, session.session_hash)
        self._broadcaster.end_session(session.session_hash)
        response = RedirectResponse(LOG_IN_PATH, HTTPStatus.SEE_OTHER)
        delete_cookie(request, response)
        return response

    def welcome_form(self, request: Request, token: str) -> Response:
        try:
            self._access.check_link(token)
        except LinkSpent as refusal:
            return self.message(request, HTTPStatus.GONE, str(refusal))
        return self._render(request, "welcome.html", username=FIRST_USER, problem="", password_min=PASSWORD_MIN)

    def welcome(self, request: Request, token: str, username: Field, password: Field, repeat: Field) -> Response:
        try:
            opened = self._access.finish_first_log_in(token, username, password, repeat, _address(request))
        except LinkSpent as refusal:
            return self.message(request, HTTPStatus.GONE, str(refusal))
        except AccessRefused as refusal:
            return self._render(
                request,
                "welcome.html",
                HTTPStatus.UNPROCESSABLE_ENTITY,
                username=username,
                problem=str(refusal),
                password_min=PASSWORD_MIN,
            )
        log.info("first log-in: username=%s", opened.username)
        return self._logged_in(request, opened.secret)

    def message(self, request: Request, status: HTTPStatus, text: str) -> Response:
        """A page that says one thing."""
        return self._render(request, "message.html", status, title=status.phrase, text=text)

    def _logged_in(self, request: Request, secret: str) -> Response:
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        set_cookie(request, response, secret)
        return response

    def _log_in_page(
        self, request: Request, status: HTTPStatus = HTTPStatus.OK, username: str = "", problem: str = ""
    ) -> Response:
        return self._render(
            request,
            "log_in.html",
            status,
            username=username,
            problem=problem,
            nobody_yet=self._access.welcome_open(),
        )

    def _render(
        self, request: Request, template: str, status: HTTPStatus = HTTPStatus.OK, **context: object
    ) -> HTMLResponse:
        return self._templates.TemplateResponse(request, template, context, status_code=status)


def _address(request: Request) -> str:
    """Where the request comes from."""
    return request.client.host if request.client else "unknown"
