"""Templates to answers: pages with the bar on top, cards, and pages that say one thing."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.templating import Jinja2Templates

from cloud.console import assets
from cloud.model.access import Permission, Principal

Handler = Callable[..., Any]
Field = Annotated[str, Form(max_length=4096)]


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """A page in the bar; shown to whoever may open it."""

    path: str
    title: str
    permission: Permission


NAVIGATION: Final = (
    NavigationLink("/", "Live", Permission.VIEW),
    NavigationLink("/dispatch", "Dispatch", Permission.VIEW),
    NavigationLink("/people", "People", Permission.PEOPLE),
    NavigationLink("/audit", "Audit", Permission.AUDIT),
)


def utc_text(utc_ms: int) -> str:
    """To the second, as pages show it."""
    return f"{dt.datetime.fromtimestamp(utc_ms / 1000, dt.UTC):%Y-%m-%d %H:%M:%S}"


def page_router(path: str, show: Handler, forms: Mapping[str, Handler]) -> APIRouter:
    """Routes of a page: `show` answers at its path, each of `forms` the form that is sent to its name below that."""
    router = APIRouter(include_in_schema=False, prefix=path)
    router.add_api_route("", show, methods=["GET"])
    for name, take in forms.items():
        router.add_api_route(f"/{name}", take, methods=["POST"])
    return router


class Renderer:
    """The console's templates."""

    def __init__(self) -> None:
        self._templates = Jinja2Templates(directory=assets.TEMPLATES)

    def page(
        self,
        request: Request,
        template: str,
        person: Principal,
        status: HTTPStatus = HTTPStatus.OK,
        **context: object,
    ) -> HTMLResponse:
        """A page of the console for whoever is logged in."""
        links = [link for link in NAVIGATION if person.may(link.permission)]
        return self.card(request, template, status, person=person, links=links, **context)

    def card(
        self, request: Request, template: str, status: HTTPStatus = HTTPStatus.OK, **context: object
    ) -> HTMLResponse:
        """A page for anybody."""
        return self._templates.TemplateResponse(request, template, context, status_code=status)

    def message(self, request: Request, status: HTTPStatus, text: str) -> Response:
        """A page that says one thing."""
        return self.card(request, "message.html", status, title=status.phrase, text=text)
