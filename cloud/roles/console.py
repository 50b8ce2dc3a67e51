"""The console and the API behind it."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

from cloud.api.access import first_log_in_link
from cloud.api.app import create_app
from cloud.api.live import Live
from cloud.api.serve import serve
from cloud.api.signals import HeardSignals
from cloud.api.target import FleetTarget
from cloud.gateway.broker import bracketed, reachable
from cloud.gateway.servers import load_pair
from cloud.gateway.stopping import Told, order
from cloud.identity.keyring import Keyring
from cloud.identity.sealing import open_sealer
from cloud.roles.foundation import START_S, Foundation, utc_ms, utc_now
from cloud.store.ledger import Ledger

_LOOK_S: Final = 1.0


async def start(on: Foundation) -> None:
    """Returns when it answers."""
    listen = on.config.listen
    port = on.ports["console_port"]
    plain = on.config.console.insecure_loopback_only
    tls = None if plain else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls is not None:
        load_pair(tls, on.keyring)
        on.parts.run("console certificate", _follow_rotations(tls, on.keyring))
    url = f"{'http' if plain else 'https'}://{bracketed(reachable(listen.host))}:{port}"
    log_in = first_log_in_link(on.ledger, url, utc_now())
    nc = await on.connect("console", on.parts)
    signals = HeardSignals()
    await signals.listen(nc)
    live = Live(on.fleet, on.ledger, FleetTarget(signals.at), broker_connected=lambda: nc.is_connected, utc_ms=utc_ms)
    listening = asyncio.Event()

    async def send_stop(*, stop: bool, reason: str, sites: Sequence[str], groups: Sequence[str], actor: str) -> Told:
        if on.keyring.keys.command.public:
            return Told(failures=["this console was given no command key: use `vpp-cloud stop` where the keys are"])
        with Ledger(on.data.ledger) as ledger:
            return await order(
                nc,
                on.keyring.signer,
                ledger,
                stop=stop,
                reason=reason,
                sites=sites,
                groups=groups,
                actor=actor,
                utc_ms=utc_ms,
            )

    password_only = on.config.console.insecure_password_only
    if password_only:
        on.say("INSECURE: console.insecure_password_only lets a password alone move power")
    app = create_app(
        on.ledger, live, open_sealer(on.data.keys, on.data.passphrase()), send_stop, allow_password_only=password_only
    )
    on.parts.run("console", serve(app, listen.host, port, listening=lambda _: listening.set(), tls=tls))
    await on.parts.until(listening, within_s=START_S)
    on.served |= {"console": url, "console_log_in": log_in}
    on.say(f"console: {url}")
    if plain:
        on.say("INSECURE: the console is plain HTTP; nobody but this machine can reach it")
    else:
        on.say(
            f"its certificate is of this coordinator's own root, which browsers can import: {on.keyring.authority_file}"
        )
    if log_in is not None:
        on.say(f"first log-in (once, within a day): {log_in}")


async def _follow_rotations(tls: ssl.SSLContext, keyring: Keyring) -> None:
    version = keyring.version
    while True:
        await asyncio.sleep(_LOOK_S)
        if keyring.version != version:
            version = keyring.version
            load_pair(tls, keyring)
