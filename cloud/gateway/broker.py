"""The broker as a child of the coordinator: started, watched, brought back, stopped, and never left behind."""

import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from cloud.gateway import tied
from cloud.gateway.link import Account, Link, own_login
from cloud.gateway.nats_server import BrokerError, BrokerFiles, ClusterNode, config_text, find_program
from cloud.identity.keyring import Keyring
from cloud.store.errors import LedgerUnavailable

log = logging.getLogger(__name__)

_START_S: Final = 30.0  # recovery of a large store takes a while
_STOP_S: Final = 5.0
_PROBE_S: Final = 0.05
_RETRY_FIRST_S: Final = 0.5
_RETRY_MOST_S: Final = 10.0
_LOOK_S: Final = 0.5


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
        name: str | None = None,
        node: ClusterNode | None = None,
    ) -> None:
        """name, node: of a node of a cluster, always the same, and its place there.

        revocations: users' keys to refuse, in credentials issued up to an instant [UTC ms]; called in a thread.
        """
        self._files = BrokerFiles(folder=folder.absolute())
        self._keyring = keyring
        self._host = host
        self._port = port
        self._now = now
        self._node_name = name
        self._node = node
        self._process: asyncio.subprocess.Process | None = None
        self._name = self._operator = ""
        # The server's private key, where the broker can read it as a file and no disk has it.
        self._key_memory = os.memfd_create("murmuration-server-key", os.MFD_CLOEXEC)
        self.url: Final = f"tls://{bracketed(public_host)}:{port}"
        self.link: Final = Link(
            [f"tls://{bracketed(reachable(host))}:{port}"],
            own_login(keyring, now),
            keyring.authority_file,
        )
        self.account: Final = Account(keyring, revocations, now, self._files.revocations)

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
        self._name = self._node_name or f"murmuration-{secrets.token_hex(4)}"
        await self._configure()
        with self._files.start_output.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", tied.__file__, str(os.getpid())),
                *(str(program), "-c", str(self._files.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(self._key_memory,),
                start_new_session=True,  # Ctrl-C is for the coordinator, which stops the broker last
            )
        try:
            async with asyncio.timeout(_START_S):
                await self._serving(self._process, self._name)
        except TimeoutError as error:
            await self.stop()
            raise BrokerError(
                f"nats-server did not serve on port {self._port} within {_START_S:.0f} s; see {self._files.log}"
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def _configure(self) -> None:
        """Writes what the broker reads at its start and when it is told to read again."""
        text = config_text(
            self._files,
            self._keyring,
            await self._account_token(),
            host=self._host,
            port=self._port,
            name=self._name,
            key_file=f"/proc/self/fd/{self._key_memory}",
            now_s=int(self._now().timestamp()),
            node=self._node,
        )
        self._files.config.write_text(text)
        self._files.config.chmod(0o600)
        self._operator = self._keyring.keys.operator_jwt
        key = self._keyring.server_key_pem
        os.pwrite(self._key_memory, key, 0)
        os.ftruncate(self._key_memory, len(key))

    async def _account_token(self) -> str:
        """While the ledger is away, with the revocations it told last. Raises BrokerError where it never told any."""
        try:
            return await self.account.token()
        except LedgerUnavailable as away:
            try:
                token = await self.account.remembered_token()
            except (OSError, ValueError) as error:
                raise BrokerError(
                    f"{away}; and who is revoked was never told to {self._files.folder}: start it once while the "
                    "ledger answers"
                ) from error
            log.warning("broker is configured with the revocations that were known last: %s", away)
            return token

    async def follow_keys(self) -> None:
        """Hands on what was rotated, for ever: a server's key while it serves, a new operator by starting it again."""
        version = self._keyring.version
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._keyring.version == version or self.pid is None:
                continue
            version = self._keyring.version
            if self._operator != self._keyring.keys.operator_jwt:
                log.warning("broker is started again under its new operator; gateways come back by themselves")
                self._signal(signal.SIGTERM)
            else:
                await self._configure()
                self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

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
        """Stop it and wait until it is gone. It can be started again."""
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
        """A connection with the coordinator's own rights, which reconnects for ever. Raises BrokerError."""
        return await self.link.connect(role)

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
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec B104: looked up, not bound


def bracketed(host: str) -> str:
    """`host` as it stands in an address with a port."""
    return f"[{host}]" if ":" in host else host
