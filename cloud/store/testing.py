"""A PostgreSQL server for tests and benches: Debian's own program, on a free port and in a folder of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from cloud.gateway import tied
from cloud.gateway.ports import free_port

_HOST: Final = "127.0.0.1"
_USER: Final = "postgres"
_START_S: Final = 60.0
_STOP_S: Final = 60.0
_TICK_S: Final = 0.05
INSTALL: Final = "apt-get install postgresql"


class PostgresMissing(Exception):
    """There is no PostgreSQL on this machine."""


def find_programs() -> Path:
    """The folder of the newest `postgres` and `initdb`. Raises PostgresMissing."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    for folder in (*folders, *([Path(on_path).parent] if on_path else [])):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise PostgresMissing(f"PostgreSQL is not installed: {INSTALL}")


class PostgresServer:
    """Trusts everybody on this machine and its own networks; every database is made when it is asked for."""

    def __init__(self, folder: Path, programs: Path, host: str) -> None:
        self._folder = folder
        self._programs = programs
        self._host = host
        self.port = free_port(host)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def make(self) -> None:
        """The cluster's files."""
        if _is_root():
            account = pwd.getpwnam("postgres")
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        command = [*_as_user(), str(self._programs / "initdb"), "-D", str(self._folder / "data"), "-U", _USER]
        command += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, timeout=_START_S)
        with (self._folder / "data" / "pg_hba.conf").open("a") as access:
            access.write("host all all samenet trust\n")

    def start(self) -> None:
        """Returns when it answers. Raises TimeoutError."""
        command = [*_as_user(), str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        command += ["-h", self._host, "-p", str(self.port), "-k", "", "-c", "fsync=off"]  # a crash is not a power cut
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(_TICK_S)
            else:
                return
        raise TimeoutError(f"PostgreSQL does not answer; see {self._folder / 'log'}")

    @property
    def runs(self) -> bool:
        return self._process is not None

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: a fast shutdown, as a restart does; SIGQUIT: at once, as after a crash."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def new_database(self) -> str:
        """The address of an empty database."""
        self._databases += 1
        name = f"ledger_{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://{_USER}@{self._host}:{self.port}/{database}"


@contextmanager
def postgres_server(host: str = _HOST) -> Iterator[PostgresServer]:
    """A server on an address of this machine that is gone afterwards, with all that it kept.

    Raises PostgresMissing.
    """
    programs = find_programs()
    # Not pytest's own folder: another user must be able to enter it.
    with tempfile.TemporaryDirectory(prefix="murmuration-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder), programs, host)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _is_root() -> bool:
    return os.geteuid() == 0


def _as_user() -> tuple[str, ...]:
    """Who runs it: PostgreSQL refuses root. The kernel ends it with us, however that happens."""
    if _is_root():
        return ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--pdeathsig=KILL")
    return (sys.executable, "-I", "-S", tied.__file__, str(os.getpid()))
