"""The console and the API behind it."""

import asyncio

from cloud.api.access import first_log_in_link
from cloud.api.app import create_app
from cloud.api.live import Live
from cloud.api.serve import serve
from cloud.api.target import FleetTarget
from cloud.gateway.broker import bracketed, reachable
from cloud.identity.sealing import open_sealer
from cloud.roles.foundation import START_S, Foundation, utc_ms, utc_now


async def start(on: Foundation) -> None:
    """Returns when it answers."""
    listen = on.config.listen
    port = on.ports["console_port"]
    url = f"http://{bracketed(reachable(listen.host))}:{port}"
    log_in = first_log_in_link(on.ledger, url, utc_now())
    nc = await on.connect("console", on.parts)
    live = Live(on.fleet, on.ledger, FleetTarget(), broker_connected=lambda: nc.is_connected, utc_ms=utc_ms)
    listening = asyncio.Event()
    password_only = on.config.console.insecure_password_only
    if password_only:
        on.say("INSECURE: console.insecure_password_only lets a password alone move power")
    app = create_app(
        on.ledger, live, open_sealer(on.data.keys, on.data.passphrase()), allow_password_only=password_only
    )
    on.parts.run("console", serve(app, listen.host, port, listening=lambda _: listening.set()))
    await on.parts.until(listening, within_s=START_S)
    on.served |= {"console": url, "console_log_in": log_in}
    on.say(f"console: {url}")
    if log_in is not None:
        on.say(f"first log-in (once, within a day): {log_in}")
