"""A person's own account: password and second factor."""

import io
from http import HTTPStatus

import segno
from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from cloud.api.access import Access, AccessRefused
from cloud.api.accounts import AccountRefused, Accounts, NewSecondFactor
from cloud.api.passwords import PASSWORD_MIN
from cloud.api.rendering import Field, Renderer, page_router
from cloud.api.sessions import PageViewer, address_of, set_cookie
from cloud.model.access import Principal

PATH = "/account"


class AccountPages:
    """`router` holds the routes."""

    def __init__(self, access: Access, accounts: Accounts, renderer: Renderer) -> None:
        self._access = access
        self._accounts = accounts
        self._renderer = renderer
        self.router = page_router(
            PATH,
            self.account,
            {
                "password": self.password,
                "second-factor": self.begin_second_factor,
                "second-factor/confirm": self.confirm_second_factor,
            },
        )

    def account(self, request: Request, person: PageViewer) -> Response:
        return self._page(request, person)

    def password(self, request: Request, person: PageViewer, old: Field, password: Field, repeat: Field) -> Response:
        try:
            opened = self._access.change_password(person.name, old, password, repeat, address_of(request))
        except AccessRefused as refusal:
            return self._page(request, person, HTTPStatus.UNPROCESSABLE_ENTITY, problem=str(refusal))
        response = RedirectResponse(PATH, HTTPStatus.SEE_OTHER)
        set_cookie(request, response, opened.secret)
        return response

    def begin_second_factor(self, request: Request, person: PageViewer) -> Response:
        try:
            fresh = self._accounts.new_second_factor(person.name)
        except AccountRefused as refusal:
            return self._page(request, person, HTTPStatus.CONFLICT, problem=str(refusal))
        return self._page(request, person, fresh=fresh)

    def confirm_second_factor(self, request: Request, person: PageViewer, code: Field) -> Response:
        try:
            self._accounts.confirm_second_factor(person.name, code)
        except AccountRefused as refusal:
            return self._page(request, person, HTTPStatus.UNPROCESSABLE_ENTITY, problem=str(refusal))
        return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)

    def _page(
        self,
        request: Request,
        person: Principal,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        problem: str = "",
        fresh: NewSecondFactor | None = None,
    ) -> Response:
        return self._renderer.page(
            request,
            "account.html",
            person,
            status,
            problem=problem,
            second_factor=self._accounts.has_second_factor(person.name),
            fresh=fresh,
            qr=None if fresh is None else _qr(fresh.uri),
            password_min=PASSWORD_MIN,
        )


def _qr(text: str) -> Markup:
    """The QR code as SVG that stands in the page itself: it must be no file that a cache could keep."""
    out = io.BytesIO()
    segno.make(text, error="m").save(out, kind="svg", scale=4, border=3, light="#fff", xmldecl=False, svgns=False)
    return Markup(out.getvalue().decode())  # nosec B704: segno's own drawing, nothing of the text
