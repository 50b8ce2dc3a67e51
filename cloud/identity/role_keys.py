"""A role's own share of the keys: what its process needs and nothing that lets it be another one."""

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from cloud.identity import jwt, key_store, sealing, vault
from cloud.identity.key_store import KeyringError, OnlineKeys, Stored
from cloud.identity.keyring import Keyring
from cloud.model.role import Role

# Beside these each has the public halves. `backend` is who speaks to the broker, by a login that was signed beforehand.
NEEDED: Final[Mapping[Role, frozenset[str]]] = {
    Role.BROKER: frozenset({"operator_signer", "system_signer", "backend", "server"}),
    Role.COORDINATOR: frozenset({"operator_signer", "system_signer", "backend", "command", "command_next", "audit"}),
    Role.GATEWAY: frozenset({"issuing", "devices", "server"}),
    Role.INGEST: frozenset({"backend"}),
    Role.CONSOLE: frozenset({"backend", "server"}),
}


def export(
    keyring: Keyring,
    source: tuple[Path, bytes],
    target: tuple[Path, bytes],
    roles: Collection[Role],
    hosts: Collection[str],
    now: datetime,
) -> None:
    """Writes the roles' keys into a keys folder, in place of those that were exported there before.

    source, target: folder and passphrase. hosts: names in the servers' certificate. Raises KeyringError.
    """
    folder, passphrase = target
    keys = share(keyring, roles, now)
    if (folder / key_store.ONLINE_FILE).exists() and not key_store.read_online(folder, passphrase).roles:
        raise KeyringError(f"{folder}: has all keys of a coordinator; give another folder")
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in (key_store.AUTHORITY_FILE, key_store.AUDIT_FILE):
        key_store.write(folder / name, key_store.read(source[0] / name))
    if keys.server.secret:
        key_store.write(folder / key_store.SERVER_FILE, keyring.server_chain(hosts, now))
    if Role.CONSOLE in roles:
        sealing.open_sealer(*source)  # made on first use
        people = vault.unseal((source[0] / sealing.KEY_FILE).read_bytes(), source[1], sealing.PURPOSE)
        key_store.write(folder / sealing.KEY_FILE, vault.seal(people, passphrase, sealing.PURPOSE))
    key_store.write_online(folder, keys, passphrase)  # last: whoever runs on it takes the rest up with it


def share(keyring: Keyring, roles: Collection[Role], now: datetime) -> OnlineKeys:
    """The keys that the roles need, and the public halves of the others. Raises KeyringError."""
    keys = keyring.keys
    if keys.roles:
        raise KeyringError("these are a role's keys themselves; export where all keys are")
    if keys.token is not None:
        raise KeyringError("the keys lie in a token and do not leave it; give each machine a token")
    needed = frozenset[str]().union(*(NEEDED[role] for role in roles))
    kept: dict[str, Stored] = {}
    for name in msgspec.structs.asdict(keys):
        stored = getattr(keys, name)
        if isinstance(stored, Stored) and name not in needed:
            kept[name] = Stored(stored.name, stored.made_ms, public=keyring.public_half(stored))
    login = ""
    if needed & {"backend"}:
        now_s = int(now.timestamp())
        login = jwt.backend_jwt(keyring.account_signer, keyring.account, keyring.backend.public, now_s=now_s)
    return msgspec.structs.replace(keys, **kept, roles=tuple(sorted(roles)), login=login)
