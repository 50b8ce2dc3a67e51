"""What every answer carries and what no request may do: content security policy, and no posts from foreign pages."""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Not "no-referrer": with it, browsers send "Origin: null" with a form, which reads as foreign.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_foreign(scheme: str, headers: Headers) -> bool:
    """Whether a browser says that another site's page made this request.

    A client that sends neither header is not a browser, carries nobody's cookie by accident and is not foreign.
    """
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = headers.get("origin")
    return origin is not None and origin.lower() != f"{scheme}://{headers.get('host', '')}".lower()


class SecurityMiddleware:
    """Adds HEADERS to every answer and refuses unsafe requests that a foreign page made.

    Pure ASGI, so that streams pass through untouched. Answers may be cached only below `cacheable` paths.
    """

    def __init__(self, app: ASGIApp, cacheable: Iterable[str] = ()) -> None:
        self._app = app
        self._cacheable = tuple(cacheable)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                # Static files change with an update of the product: the browser asks, and mostly hears 304.
                headers["Cache-Control"] = "no-cache" if scope["path"].startswith(self._cacheable) else "no-store"
            await send(message)

        if scope["method"] not in SAFE_METHODS and is_foreign(scope["scheme"], Headers(scope=scope)):
            refusal = PlainTextResponse("refused: this request was made by a page of another site\n", status_code=403)
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)
