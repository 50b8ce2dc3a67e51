"""The broker as a child of the coordinator: started, watched, brought back, stopped, and never left behind."""

import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client, RawCredentials

from cloud.gateway import tied
from cloud.gateway.nats_server import BrokerError, BrokerFiles, config_text, find_program
from cloud.identity import jwt
from cloud.identity.keyring import Keyring
from cloud.identity.nkey import public

log = logging.getLogger(__name__)

_START_S: Final = 30.0  # recovery of a large store takes a while
_STOP_S: Final = 5.0
_PROBE_S: Final = 0.05
_RETRY_FIRST_S: Final = 0.5
_RETRY_MOST_S: Final = 10.0
_CONNECT_S: Final = 10.0
_SYSTEM_LIFE_S: Final = 60
_OK: Final = 200


class Broker:
    """A nats-server with JetStream, under JWT accounts that our own keys sign.

    Use it from one event loop, and from the thread that lives as long as the process: the broker is killed when the
    thread that started it ends.
    """

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        *,
        host: str,
        port: int,
        public_host: str,
        now: Callable[[], datetime],
        revocations: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """revocations: users' keys to refuse, in credentials issued up to an instant [UTC ms]; called in a thread."""
        self._files = BrokerFiles(folder=folder.absolute())
        self._keyring = keyring
        self._host = host
        self._port = port
        self._now = now
        self._revocations = revocations
        self._account_s = 0  # when the account JWT was issued that the broker has
        self._process: asyncio.subprocess.Process | None = None
        self.url: Final = f"tls://{bracketed(public_host)}:{port}"
        self._own_url = f"tls://{bracketed(reachable(host))}:{port}"

    @property
    def pid(self) -> int | None:
        """The running broker's process id."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it and wait until it serves. Raises BrokerError."""
        program = await asyncio.to_thread(find_program)
        self._files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._end_stray()
        # The ledger says who is revoked: nothing that an earlier broker kept may stand against it.
        await asyncio.to_thread(shutil.rmtree, self._files.accounts, ignore_errors=True)
        name = f"murmuration-{secrets.token_hex(4)}"
        text = config_text(
            self._files,
            self._keyring,
            await self._account_token(),
            host=self._host,
            port=self._port,
            name=name,
            now_s=int(self._now().timestamp()),
        )
        self._files.config.write_text(text)
        self._files.config.chmod(0o600)
        with self._files.start_output.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", tied.__file__, str(os.getpid())),
                *(str(program), "-c", str(self._files.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the coordinator, which stops the broker last
            )
        try:
            async with asyncio.timeout(_START_S):
                await self._serving(self._process, name)
        except TimeoutError as error:
            await self.stop()
            raise BrokerError(
                f"nats-server did not serve on port {self._port} within {_START_S:.0f} s; see {self._files.log}"
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def push_account(self) -> None:
        """Give the running broker the revocations of now: it cuts live connections at once. Raises BrokerError."""
        keyring, now_s = self._keyring, int(self._now().timestamp())
        token = jwt.system_jwt(keyring.system, public(keyring.backend), now_s=now_s, expires_s=now_s + _SYSTEM_LIFE_S)
        client = await self._open(token, "accounts", reconnect=False)
        try:
            answer = await client.request(jwt.CLAIMS_UPDATE, (await self._account_token()).encode(), timeout=_CONNECT_S)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise BrokerError(f"our own broker did not take the new account ({error!r})") from error
        finally:
            await client.close()
        told = json.loads(answer.data)
        if "error" in told or told.get("data", {}).get("code") != _OK:
            raise BrokerError(f"our own broker refused the new account: {answer.data.decode(errors='replace')[:200]}")

    async def _account_token(self) -> str:
        """The account with the revocations of now, issued later than the one before: the broker takes no older one."""
        keyring = self._keyring
        revoked = await asyncio.to_thread(self._revocations)
        self._account_s = max(int(self._now().timestamp()), self._account_s + 1)
        return jwt.account_jwt(
            keyring.operator,
            public(keyring.account),
            public(keyring.devices),
            {key: until_ms // 1000 for key, until_ms in revoked.items()},
            now_s=self._account_s,
        )

    async def run(self, on_return: Callable[[], None]) -> None:
        """Watch it for ever: when it dies by itself bring it back, same port and store, then call `on_return`."""
        retry_s = _RETRY_FIRST_S
        while True:
            if self._process is not None:
                code = await self._process.wait()
                log.warning("broker died: exit_code=%s; starting it again", code)
            try:
                await self.start()
            except (BrokerError, OSError) as error:
                log.error("broker does not come back: %s; next try in %.1f s", error, retry_s)
                self._process = None
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _RETRY_MOST_S)
                continue
            retry_s = _RETRY_FIRST_S
            on_return()
            log.info("broker is back: pid=%s", self.pid)

    async def stop(self) -> None:
        """Stop it and wait until it is gone."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def connect(self, role: str) -> Client:
        """A connection with the coordinator's own rights, which reconnects for ever. `role` names it in the broker.

        Raises BrokerError.
        """
        keyring = self._keyring
        token = jwt.backend_jwt(keyring.account, public(keyring.backend), now_s=int(self._now().timestamp()))
        return await self._open(token, role, reconnect=True)

    async def _open(self, token: str, role: str, *, reconnect: bool) -> Client:
        """A connection under the coordinator's own user key. Raises BrokerError."""
        keyring = self._keyring
        trust = ssl.create_default_context(cafile=str(keyring.authority_file))
        client = Client()
        state = _LinkLog(role, client)
        try:
            await asyncio.wait_for(
                client.connect(
                    self._own_url,
                    name=f"coordinator-{role}",
                    tls=trust,
                    user_credentials=RawCredentials(jwt.credentials_text(token, keyring.backend.seed)),
                    connect_timeout=5,
                    allow_reconnect=reconnect,
                    max_reconnect_attempts=-1 if reconnect else 1,
                    reconnect_time_wait=1,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=state.error,
                    disconnected_cb=state.lost,
                    reconnected_cb=state.back,
                ),
                _CONNECT_S,
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise BrokerError(f"cannot connect to our own broker at {self._own_url} as {role}: {error!r}") from error
        return client

    async def _serving(self, process: asyncio.subprocess.Process, name: str) -> None:
        """Returns when the server of this name greets on the port. Raises BrokerError when it died instead."""
        gone = asyncio.ensure_future(process.wait())
        try:
            while not gone.done():
                if await _greeting(reachable(self._host), self._port) == name:
                    return
                await asyncio.wait({gone}, timeout=_PROBE_S)
        finally:
            gone.cancel()
        raise BrokerError(f"nats-server does not start: {self._last_words()}")

    def _last_words(self) -> str:
        """The reason a broker gave for ending."""
        for path in (self._files.start_output, self._files.log):
            with suppress(OSError):
                lines = path.read_text(errors="replace").strip().splitlines()
                if lines:
                    return f"{lines[-1].strip()} (in {path})"
        return f"it said nothing; see {self._files.folder}"

    async def _end_stray(self) -> None:
        """End a broker that a former coordinator left on this folder, whose lock we hold: nobody else owns it."""
        try:
            pid = int(self._files.pid.read_text())
        except (OSError, ValueError):
            return
        if not self._runs(pid):
            return  # gone, or the number is another program's by now
        log.warning("a broker was left on this data folder: pid=%d; ending it", pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            for _ in range(round(_STOP_S / _PROBE_S)):
                if not self._runs(pid):
                    return
                await asyncio.sleep(_PROBE_S)
        raise BrokerError(f"a broker (process {pid}) holds {self._files.folder} and cannot be ended; end it by hand")

    def _runs(self, pid: int) -> bool:
        """Whether the process `pid` is a broker on our configuration file."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self._files.config) in command


class _LinkLog:
    """Logs a connection's loss once and its return once."""

    def __init__(self, role: str, client: Client) -> None:
        self._role = role
        self._client = client
        self._connected = True
        self._last = ""

    async def lost(self) -> None:
        if self._connected and not self._client.is_closed:
            log.warning("broker lost: role=%s", self._role)
        self._connected = False

    async def back(self) -> None:
        log.info("broker reached again: role=%s", self._role)
        self._connected, self._last = True, ""

    async def error(self, error: Exception) -> None:
        if isinstance(error, (OSError, nats.errors.UnexpectedEOF, nats.errors.StaleConnectionError)):
            return  # a loss, which is told above
        text = repr(error)
        if self._connected and text != self._last:
            log.warning("broker connection: role=%s error=%s", self._role, text)
        self._last = text


async def _greeting(host: str, port: int) -> str | None:
    """The server name in the INFO line that a NATS server greets with; None if nobody greets there."""
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                line = await reader.readline()
            finally:
                writer.close()
        if not line.startswith(b"INFO "):
            return None
        return str(json.loads(line[5:])["server_name"])
    except (OSError, TimeoutError, ValueError, KeyError):
        return None


def reachable(host: str) -> str:
    """Where this machine reaches a listener on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def bracketed(host: str) -> str:
    """`host` as it stands in an address with a port."""
    return f"[{host}]" if ":" in host else host
