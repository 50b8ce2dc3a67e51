"""An updater, and the coordinator's shelf that it fetches from."""

import asyncio
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.sync.command_keys import key_id
from edge_agent.sync.coordinator import Unreachable
from edge_agent.sync.intents import CommandKeys
from edge_agent.sync.updates import Updater
from protos import manifest as manifests
from protos.vpp.v1.site_pb2 import SignedManifest, UpdateStatus

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
RAW = KEY.public_key().public_bytes_raw()


def wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD = wheel({"edge_agent/cli.py": b"print()", "edge_agent/__init__.py": b""})


class Site:
    """An updater, and the coordinator's shelf that it fetches from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shelf: dict[str, bytes] = {}
        self.fetched: list[tuple[int, int]] = []  # from where to where
        self.breaks_after: int | None = None
        self.tried: list[Path] = []
        self.verdict: str | Exception = ""  # on each model that is tried
        self.updater = self.started()

    def started(self) -> Updater:
        updater = Updater(self.folder, self.fetch, lambda: None, self.try_model)
        updater.keys = CommandKeys([RAW])
        return updater

    async def fetch(self, sha256: str, path: Path, size: int) -> None:
        content = self.shelf[sha256]
        with path.open("ab") as file:
            begin = file.tell()
            end = len(content) if self.breaks_after is None else begin + self.breaks_after
            file.write(content[begin:end])
        self.fetched.append((begin, end))
        if self.breaks_after is not None:
            raise Unreachable("cut off")

    async def try_model(self, path: Path) -> str:
        self.tried.append(path)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def signed(self, content: bytes = GOOD, key: Ed25519PrivateKey = KEY, **changed: Any) -> SignedManifest:
        sha256 = hashlib.sha256(content).hexdigest()
        self.shelf[sha256] = content
        fields: dict[str, Any] = {
            "kind": "agent",
            "name": "vpp-agent",
            "version": [1, 2, 0],
            "minimum_version": [0, 0, 0],
            "board": "",
            "files": [{"path": "agent.whl", "size": len(content), "sha256": sha256}],
            "issued": 1,
        }
        text = manifests.encode({**fields, **changed})
        return SignedManifest(manifest=text, signature=key.sign(manifests.CONTEXT + text), key_id=key_id(RAW))

    async def take(self, signed: SignedManifest) -> UpdateStatus:
        """The update's state once it is no longer being fetched."""
        done = asyncio.Event()
        self.updater._changed = done.set
        self.updater.want([signed])
        task = asyncio.create_task(self.updater.run())
        try:
            async with asyncio.timeout(20):
                while True:
                    await done.wait()
                    done.clear()
                    [status] = self.updater.statuses()
                    passing = (UpdateStatus.STATE_FETCHING, UpdateStatus.STATE_SWITCHED)
                    if status.state not in passing or status.reason:
                        return status
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def staged(self) -> str | None:
        path = self.folder / "updates" / "staged.json"
        return json.loads(path.read_text())["version"] if path.exists() else None
