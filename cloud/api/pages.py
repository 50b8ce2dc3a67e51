"""The live page, log-in and log-out, and one-time links."""

import logging
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from cloud.api.access import Access, AccessRefused, Invitation, LinkSpent, LockedOut
from cloud.api.passwords import PASSWORD_MIN
from cloud.api.rendering import Field, Renderer
from cloud.api.sessions import LOG_IN_PATH, PageViewer, address_of, delete_cookie, find_principal, set_cookie
from cloud.api.stream import Broadcaster
from cloud.console import assets

log = logging.getLogger(__name__)


class Pages:
    """The live page, log-in and log-out, and one-time links; `router` holds their routes."""

    def __init__(self, access: Access, broadcaster: Broadcaster, renderer: Renderer) -> None:
        self._access = access
        self._broadcaster = broadcaster
        self._renderer = renderer
        self._assets_were_missing = False
        self.router = APIRouter(include_in_schema=False)
        add = self.router.add_api_route
        add("/", self.live, methods=["GET"])
        add(LOG_IN_PATH, self.log_in_form, methods=["GET"])
        add(LOG_IN_PATH, self.log_in, methods=["POST"])
        add("/log-out", self.log_out, methods=["POST"])
        add("/welcome/{token}", self.welcome_form, methods=["GET"])
        add("/welcome/{token}", self.welcome, methods=["POST"])

    def live(self, request: Request, viewer: PageViewer) -> Response:
        """What the fleet does now."""
        missing = assets.missing()
        if missing:
            if not self._assets_were_missing:
                log.error("%s (first missing: %s)", assets.MISSING_TEXT, missing[0])
            self._assets_were_missing = True
            return self._renderer.message(request, HTTPStatus.SERVICE_UNAVAILABLE, assets.MISSING_TEXT)
        self._assets_were_missing = False
        return self._renderer.page(request, "live.html", viewer)

    async def log_in_form(self, request: Request) -> Response:
        if await find_principal(request) is not None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        return await run_in_threadpool(self._log_in_page, request)

    def log_in(self, request: Request, username: Field, password: Field, code: Field = "") -> Response:
        address = address_of(request)
        try:
            opened = self._access.log_in(username, password, code, address)
        except LockedOut as refusal:
            log.warning("log-in locked out: address=%s for_s=%.0f", address, refusal.locked_for_s)
            response = self._log_in_page(request, HTTPStatus.TOO_MANY_REQUESTS, username, str(refusal))
            response.headers["Retry-After"] = str(int(refusal.locked_for_s) + 1)
            return response
        except AccessRefused as refusal:
            log.warning("log-in refused: address=%s", address)
            return self._log_in_page(request, HTTPStatus.UNAUTHORIZED, username, str(refusal))
        return self._logged_in(request, opened.secret)

    async def log_out(self, request: Request, person: PageViewer) -> Response:
        assert person.session is not None, "pages are for people"  # noqa: S101
        await run_in_threadpool(self._access.log_out, person.session.session_hash)
        self._broadcaster.end_session(person.session.session_hash)
        response = RedirectResponse(LOG_IN_PATH, HTTPStatus.SEE_OTHER)
        delete_cookie(request, response)
        return response

    def welcome_form(self, request: Request, token: str) -> Response:
        try:
            invitation = self._access.invitation(token)
        except LinkSpent as refusal:
            return self._renderer.message(request, HTTPStatus.GONE, str(refusal))
        return self._welcome_page(request, invitation, invitation.username)

    def welcome(self, request: Request, token: str, password: Field, repeat: Field, username: Field = "") -> Response:
        try:
            invitation = self._access.invitation(token)
            opened = self._access.accept(token, username, password, repeat, address_of(request))
        except LinkSpent as refusal:
            return self._renderer.message(request, HTTPStatus.GONE, str(refusal))
        except AccessRefused as refusal:
            return self._welcome_page(request, invitation, username, HTTPStatus.UNPROCESSABLE_ENTITY, str(refusal))
        log.info("password set by a one-time link: username=%s", opened.username)
        return self._logged_in(request, opened.secret)

    def _logged_in(self, request: Request, secret: str) -> Response:
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        set_cookie(request, response, secret)
        return response

    def _log_in_page(
        self, request: Request, status: HTTPStatus = HTTPStatus.OK, username: str = "", problem: str = ""
    ) -> Response:
        return self._renderer.card(
            request, "log_in.html", status, username=username, problem=problem, nobody_yet=self._access.nobody_yet()
        )

    def _welcome_page(
        self,
        request: Request,
        invitation: Invitation,
        username: str,
        status: HTTPStatus = HTTPStatus.OK,
        problem: str = "",
    ) -> Response:
        return self._renderer.card(
            request,
            "welcome.html",
            status,
            username=username if invitation.first else invitation.username,
            may_rename=invitation.first,
            problem=problem,
            password_min=PASSWORD_MIN,
        )
