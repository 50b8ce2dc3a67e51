"""The session cookie, and the checks that stand before every page and call."""

from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from cloud.api.access import SESSION_LIFETIME, Access
from cloud.model.records import LogInSession

LOG_IN_PATH = "/log-in"


def cookie_name(scheme: str) -> str:
    """`__Host-` makes the browser insist on TLS and on this host; it cannot be had without TLS."""
    return "__Host-vpp_session" if scheme == "https" else "vpp_session"


def set_cookie(request: Request, response: Response, secret: str) -> None:
    """Lets the browser keep the session's secret, out of reach of scripts and of other sites' requests."""
    response.set_cookie(
        cookie_name(request.url.scheme),
        secret,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def delete_cookie(request: Request, response: Response) -> None:
    response.delete_cookie(
        cookie_name(request.url.scheme),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


async def find_session(request: Request) -> LogInSession | None:
    """The session of the request's cookie, unless there is none or it is over."""
    access: Access = request.app.state.access
    return await run_in_threadpool(access.session, request.cookies.get(cookie_name(request.url.scheme)))


class LogInNeeded(Exception):
    """A page without a session: the browser is sent to the log-in."""


async def _page_session(session: Annotated[LogInSession | None, Depends(find_session)]) -> LogInSession:
    if session is None:
        raise LogInNeeded
    return session


async def _call_session(session: Annotated[LogInSession | None, Depends(find_session)]) -> LogInSession:
    if session is None:
        raise HTTPException(401, "no session: log in first", {"WWW-Authenticate": "Cookie"})
    return session


PageSession = Annotated[LogInSession, Depends(_page_session)]
CallSession = Annotated[LogInSession, Depends(_call_session)]
