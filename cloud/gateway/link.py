"""Connections to the broker with the coordinator's own rights, whether the broker is our child or a cluster."""

import asyncio
import base64
import json
import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud.gateway.nats_server import BrokerError
from cloud.identity import jwt
from cloud.identity.keyring import Keyring
from cloud.identity.nkey import Nkey

log = logging.getLogger(__name__)

_CONNECT_S: Final = 10.0
_NOT_ALLOWED: Final = "permissions violation"  # of one subject: the connection stays
_PING_S: Final = 2  # a frozen broker is noticed after three of these
_SYSTEM_LIFE_S: Final = 60
_OK: Final = 200

Revocations = Callable[[], Mapping[str, int]]


class Login(NamedTuple):
    """How a user proves who it is. Asked at every connect and reconnect, so that what was rotated meanwhile counts."""

    token: Callable[[], str]  # the user's JWT
    user: Callable[[], Nkey]


class Link:
    """Opens connections. urls: of one broker or of every node of a cluster.

    trust: the certificate authority of the brokers.
    """

    def __init__(self, urls: Sequence[str], login: Login, trust: Path) -> None:
        self.urls: Final = tuple(urls)
        self._login = login
        self._trust = trust

    async def connect(self, role: str, on_return: Callable[[], None] | None = None) -> Client:
        """A connection that reconnects for ever. `role` names it in the broker; on_return: called when it is back.

        Raises BrokerError.
        """
        return await self.open(self._login, role, reconnect=True, on_return=on_return)

    async def open(
        self, login: Login, role: str, *, reconnect: bool, on_return: Callable[[], None] | None = None
    ) -> Client:
        """A connection under another login than the usual one. Raises BrokerError."""
        client = BrokerClient()
        state = _LinkLog(role, client, on_return)
        try:
            await asyncio.wait_for(
                client.connect(
                    list(self.urls),
                    name=f"coordinator-{role}",
                    tls=ssl.create_default_context(cafile=str(self._trust)),
                    user_jwt_cb=lambda: bytearray(login.token().encode()),
                    signature_cb=lambda nonce: base64.b64encode(login.user().sign(nonce.encode())),
                    connect_timeout=2,
                    allow_reconnect=reconnect,
                    max_reconnect_attempts=-1 if reconnect else 1,
                    reconnect_time_wait=1,
                    ping_interval=_PING_S,
                    max_outstanding_pings=2,
                    error_cb=state.error,
                    disconnected_cb=state.lost,
                    reconnected_cb=state.back,
                ),
                _CONNECT_S,
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise BrokerError(f"cannot connect to the broker at {', '.join(self.urls)} as {role}: {error!r}") from error
        return client


class Account:
    """The account that sites and coordinator share, as the brokers know it: with the revocations of now.

    revocations: users' keys to refuse, in credentials issued up to an instant [UTC ms]; called in a thread.
    memory: a file that keeps the newest of them for `remembered_token`.
    """

    def __init__(
        self, keyring: Keyring, revocations: Revocations, now: Callable[[], datetime], memory: Path | None = None
    ) -> None:
        self._keyring = keyring
        self._revocations = revocations
        self._now = now
        self._memory = memory
        self._issued_s = 0

    async def token(self) -> str:
        """Issued later than the one before: a broker takes no older one."""
        revoked = await asyncio.to_thread(self._revocations)
        if self._memory is not None:
            await asyncio.to_thread(_remember, self._memory, revoked)
        return self._issue(revoked)

    async def remembered_token(self) -> str:
        """With the revocations that this process or one before it knew last. Raises FileNotFoundError, ValueError."""
        if self._memory is None:
            raise FileNotFoundError("nothing is remembered")
        text = await asyncio.to_thread(self._memory.read_bytes)
        return self._issue(msgspec.json.decode(text, type=dict[str, int]))

    def _issue(self, revoked: Mapping[str, int]) -> str:
        keyring = self._keyring
        self._issued_s = max(int(self._now().timestamp()), self._issued_s + 1)
        return jwt.account_jwt(
            keyring.operator_signer,
            keyring.account,
            keyring.account_signers,
            keyring.device_signers,
            {key: until_ms // 1000 for key, until_ms in revoked.items()},
            now_s=self._issued_s,
        )

    async def push(self, link: Link) -> None:
        """Give running brokers the revocations of now: they cut live connections at once. Raises BrokerError."""
        keyring, now_s = self._keyring, int(self._now().timestamp())

        def token() -> str:
            return jwt.system_jwt(
                keyring.system_signer,
                keyring.keys.system,
                keyring.backend.public,
                now_s=now_s,
                expires_s=now_s + _SYSTEM_LIFE_S,
            )

        client = await link.open(Login(token, lambda: keyring.backend), "accounts", reconnect=False)
        try:
            answer = await client.request(jwt.CLAIMS_UPDATE, (await self.token()).encode(), timeout=_CONNECT_S)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise BrokerError(f"the broker did not take the new account ({error!r})") from error
        finally:
            await client.close()
        told = json.loads(answer.data)
        if "error" in told or told.get("data", {}).get("code") != _OK:
            raise BrokerError(f"the broker refused the new account: {answer.data.decode(errors='replace')[:200]}")


def _remember(path: Path, revoked: Mapping[str, int]) -> None:
    """Replaces the file whole, and only where it says something else."""
    text = msgspec.json.encode(revoked, order="sorted")
    if path.exists() and path.read_bytes() == text:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(text)
    fresh.replace(path)


def own_login(keyring: Keyring, now: Callable[[], datetime]) -> Login:
    """The coordinator's own, for who has its keys, or the login that was signed for its share of them."""

    def token() -> str:
        if keyring.keys.login:
            return keyring.keys.login
        now_s = int(now().timestamp())
        return jwt.backend_jwt(keyring.account_signer, keyring.account, keyring.backend.public, now_s=now_s)

    return Login(token, lambda: keyring.backend)


class BrokerClient(Client):
    """nats-py with three of its ends mended: each would end what stands on the connection for good.

    What waits for an answer when the broker is lost is told of a loss, and not cancelled. A broker that says why it
    ends the connection (its user's key was replaced, say) is lost like one that does not, and come back to where that
    is wanted. Closing what the other end has closed already is no error.
    """

    async def _process_err(self, err_msg: str) -> None:
        if self.options["allow_reconnect"] and self.is_connected and _NOT_ALLOWED not in err_msg.lower():
            error = nats.errors.Error(f"nats: {err_msg}")
            await self._error_cb(error)
            await self._process_op_err(error)
        else:
            await super()._process_err(err_msg)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        except (OSError, AttributeError):  # its last bytes do not get out; nats-py's TLS transport may be gone as well
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)

    async def request(self, *arguments: Any, **options: Any) -> Msg:
        try:
            return await super().request(*arguments, **options)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise nats.errors.ConnectionReconnectingError from error


class _LinkLog:
    """Logs a connection's loss once and its return once."""

    def __init__(self, role: str, client: Client, on_return: Callable[[], None] | None) -> None:
        self._role = role
        self._client = client
        self._on_return = on_return
        self._connected = True
        self._last = ""

    async def lost(self) -> None:
        if self._connected and not self._client.is_closed:
            log.warning("broker lost: role=%s", self._role)
        self._connected = False

    async def back(self) -> None:
        log.info("broker reached again: role=%s", self._role)
        self._connected, self._last = True, ""
        if self._on_return is not None:
            self._on_return()

    async def error(self, error: Exception) -> None:
        if isinstance(error, (OSError, nats.errors.UnexpectedEOF, nats.errors.StaleConnectionError)):
            return  # a loss, which is told above
        text = repr(error)
        if self._connected and text != self._last:
            log.warning("broker connection: role=%s error=%s", self._role, text)
        self._last = text
