"""The administrator's page: accounts, roles, one-time links, tokens of programs."""

import datetime as dt
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from cloud.api.access import welcome_link
from cloud.api.accounts import TOKEN_DAYS_MOST, AccountRefused, Accounts
from cloud.api.rendering import Field, Renderer, page_router
from cloud.api.sessions import page_needs
from cloud.model.access import ROLES, TOKEN_PERMISSIONS, Permission, Principal
from cloud.store.ledger import Ledger

PATH = "/people"

Administrator = Annotated[Principal, page_needs(Permission.PEOPLE)]
Names = Annotated[list[str], Form(max_length=32)]


class PeoplePage:
    """`router` holds the routes."""

    def __init__(self, ledger: Ledger, accounts: Accounts, renderer: Renderer) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._renderer = renderer
        self.router = page_router(
            PATH,
            self.people,
            {
                "invite": self.invite,
                "link": self.link,
                "roles": self.roles,
                "disable": self.disable,
                "enable": self.enable,
                "second-factor": self.second_factor,
                "token": self.token,
                "token/revoke": self.revoke_token,
            },
        )

    def people(self, request: Request, person: Administrator) -> Response:
        return self._page(request, person)

    def invite(self, request: Request, person: Administrator, username: Field, role: Names) -> Response:
        return self._link(request, person, username, lambda: self._accounts.invite(username, role, person.actor))

    def link(self, request: Request, person: Administrator, username: Field) -> Response:
        return self._link(request, person, username, lambda: self._accounts.new_link(username, person.actor))

    def roles(self, request: Request, person: Administrator, username: Field, role: Names) -> Response:
        return self._change(request, person, lambda: self._accounts.set_roles(username, role, person.actor))

    def disable(self, request: Request, person: Administrator, username: Field) -> Response:
        return self._change(request, person, lambda: self._accounts.disable(username, person.actor))

    def enable(self, request: Request, person: Administrator, username: Field) -> Response:
        return self._change(request, person, lambda: self._accounts.enable(username, person.actor))

    def second_factor(self, request: Request, person: Administrator, username: Field) -> Response:
        return self._change(request, person, lambda: self._accounts.remove_second_factor(username, person.actor))

    def token(
        self,
        request: Request,
        person: Administrator,
        name: Field,
        scope: Names,
        days: Annotated[int, Form(ge=1, le=TOKEN_DAYS_MOST)],
    ) -> Response:
        try:
            secret = self._accounts.add_token(name, scope, days, person.actor)
        except AccountRefused as refusal:
            return self._page(request, person, HTTPStatus.UNPROCESSABLE_ENTITY, problem=str(refusal))
        return self._page(request, person, shown=secret, shown_what=f"Token of {name}, shown this once")

    def revoke_token(self, request: Request, person: Administrator, name: Field) -> Response:
        return self._change(request, person, lambda: self._accounts.revoke_token(name, person.actor))

    def _link(self, request: Request, person: Principal, username: str, make: Callable[[], str]) -> Response:
        try:
            token = make()
        except AccountRefused as refusal:
            return self._page(request, person, HTTPStatus.UNPROCESSABLE_ENTITY, problem=str(refusal))
        link = welcome_link(str(request.base_url), token)
        return self._page(request, person, shown=link, shown_what=f"Link for {username}, good once and for a day")

    def _change(self, request: Request, person: Principal, change: Callable[[], None]) -> Response:
        try:
            change()
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
        shown: str = "",
        shown_what: str = "",
    ) -> Response:
        return self._renderer.page(
            request,
            "people.html",
            person,
            status,
            problem=problem,
            shown=shown,
            shown_what=shown_what,
            users=self._ledger.users(),
            tokens=self._ledger.api_tokens(),
            roles=list(ROLES),
            scopes=sorted(TOKEN_PERMISSIONS),
            day=_day,
        )


def _day(utc_ms: int | None) -> str:
    return "never" if utc_ms is None else f"{dt.datetime.fromtimestamp(utc_ms / 1000, dt.UTC):%Y-%m-%d}"
