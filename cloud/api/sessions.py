"""The session cookie, and the checks that stand before every page and call."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from cloud.api.access import SESSION_LIFETIME, Access, LockedOut
from cloud.model.access import Permission, Principal

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


async def find_principal(request: Request) -> Principal | None:
    """Whose session the request's cookie is, unless there is none or it is over."""
    access: Access = request.app.state.access
    return await run_in_threadpool(access.principal, request.cookies.get(cookie_name(request.url.scheme)))


async def _find_caller(request: Request) -> Principal | None:
    """The program whose token the request bears, else the person whose cookie it carries."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return await find_principal(request)
    access: Access = request.app.state.access
    try:
        return await run_in_threadpool(access.program, token.strip(), address_of(request))
    except LockedOut as refusal:
        headers = {"Retry-After": str(int(refusal.locked_for_s) + 1)}
        raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, str(refusal), headers) from refusal


class LogInNeeded(Exception):
    """A page without a session: the browser is sent to the log-in."""


class PermissionNeeded(Exception):
    """A page or call of somebody whose roles do not go so far."""

    def __init__(self, principal: Principal, permission: Permission) -> None:
        if principal.second_factor_missing:
            remedy = "set up a second factor on your account page, then your role comes into force"
        else:
            remedy = "ask an administrator for a role that has it"
        super().__init__(f"this needs the permission {permission.value!r}: {remedy}")


async def _check(request: Request, principal: Principal, permission: Permission) -> Principal:
    if not principal.may(permission):
        access: Access = request.app.state.access
        what = f"{request.method} {request.url.path}"
        await run_in_threadpool(access.refused, principal, permission, what)
        raise PermissionNeeded(principal, permission)
    return principal


def page_needs(permission: Permission) -> Any:
    """A dependency: the person whose page it is. Without a session to the log-in, without the permission 403."""

    async def check(request: Request, principal: Annotated[Principal | None, Depends(find_principal)]) -> Principal:
        if principal is None:
            raise LogInNeeded
        return await _check(request, principal, permission)

    return Depends(check)


def call_needs(permission: Permission) -> Any:
    """A dependency: the person or program that calls. Without session or token 401, without the permission 403."""

    async def check(request: Request, caller: Annotated[Principal | None, Depends(_find_caller)]) -> Principal:
        if caller is None:
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED, "no session: log in first, or send a token", {"WWW-Authenticate": "Bearer"}
            )
        return await _check(request, caller, permission)

    return Depends(check)


def address_of(request: Request) -> str:
    """Where the request comes from."""
    return request.client.host if request.client else "unknown"


PageViewer = Annotated[Principal, page_needs(Permission.VIEW)]
CallViewer = Annotated[Principal, call_needs(Permission.VIEW)]
