"""Which updates are staged: signed ones, complete, no older than may be, and nowhere but in their own place."""

import asyncio
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
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


def damaged(compression: int) -> bytes:
    """A wheel whose directory is whole and whose content is not what it was compressed to."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("edge_agent/cli.py", b"print()" * 9)
    begin = 30 + len("edge_agent/cli.py")  # of what is compressed: behind the member's header
    begin += 9 if compression == zipfile.ZIP_LZMA else 0  # and LZMA's own
    data = bytearray(buffer.getvalue())
    data[begin : begin + 8] = b"\xff" * 8
    return bytes(data)


def encrypted() -> bytes:
    """A wheel that says that its content is encrypted."""
    data = bytearray(GOOD)
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    return bytes(data)


class Site:
    """An updater, and the coordinator's shelf that it fetches from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shelf: dict[str, bytes] = {}
        self.fetched: list[tuple[int, int]] = []  # from where to where
        self.breaks_after: int | None = None
        self.updater = self.started()

    def started(self) -> Updater:
        updater = Updater(self.folder, self.fetch, lambda: None)
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
                    if status.state != UpdateStatus.STATE_FETCHING or status.reason:
                        return status
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def staged(self) -> str | None:
        path = self.folder / "updates" / "staged.json"
        return json.loads(path.read_text())["version"] if path.exists() else None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_signed_agent_is_fetched_verified_unpacked_and_staged(site: Site) -> None:
    signed = site.signed()
    status = await site.take(signed)
    assert (status.state, status.version, site.staged) == (UpdateStatus.STATE_STAGED, "1.2.0", "1.2.0")
    slot = site.folder / "updates" / "slots" / hashlib.sha256(signed.manifest).hexdigest()
    assert (slot / "edge_agent" / "cli.py").read_bytes() == b"print()"
    assert not list((site.folder / "updates" / "files").iterdir())
    site.updater = site.started()
    assert (await site.take(signed)).state == UpdateStatus.STATE_STAGED
    assert len(site.fetched) == 1, "known after a restart"


async def test_a_download_goes_on_where_it_broke_off(site: Site) -> None:
    signed, site.breaks_after = site.signed(), 100
    for _ in range(2):
        status = await site.take(signed)
        assert (status.state, status.reason) == (UpdateStatus.STATE_FETCHING, "cut off")
        site.updater = site.started()
    site.breaks_after = None
    assert (await site.take(signed)).state == UpdateStatus.STATE_STAGED
    assert site.fetched == [(0, 100), (100, 200), (200, len(GOOD))]


async def test_a_file_that_is_not_the_signed_one_is_thrown_away(site: Site) -> None:
    signed = site.signed()
    [sha256] = site.shelf
    site.shelf[sha256] = GOOD[:-1] + b"!"
    status = await site.take(signed)
    assert "came damaged" in status.reason
    assert site.staged is None
    assert not (site.folder / "updates" / "files" / sha256).exists()


@pytest.mark.parametrize("attack", ["another key", "changed", "no signature", "signed as something else"])
async def test_what_is_not_signed_is_not_fetched(site: Site, attack: str) -> None:
    signed = site.signed(key=OTHER if attack == "another key" else KEY)
    if attack == "changed":
        signed.manifest = signed.manifest.replace(b"[1,2,0]", b"[1,3,0]")
    if attack == "no signature":
        signed.signature = b""
    if attack == "signed as something else":
        signed.signature = KEY.sign(signed.manifest)
    assert (await site.take(signed)).state == UpdateStatus.STATE_REFUSED
    assert (site.fetched, site.staged) == ([], None)


async def test_a_downgrade_below_the_minimum_is_refused_for_ever(site: Site) -> None:
    await site.take(site.signed(version=[2, 0, 0], minimum_version=[1, 5, 0]))
    site.updater = site.started()
    status = await site.take(site.signed(version=[1, 4, 9], minimum_version=[0, 0, 1]))
    assert (status.state, site.staged) == (UpdateStatus.STATE_REFUSED, "2.0.0")
    assert "1.4.9 is below the minimum 1.5.0" in status.reason
    assert (await site.take(site.signed(version=[1, 5, 0]))).state == UpdateStatus.STATE_STAGED, "not below it"
    site.updater = site.started()
    firmware = site.signed(b"mpy", kind="firmware", name="relay", board="rp2", version=[0, 0, 1])
    assert (await site.take(firmware)).state == UpdateStatus.STATE_STAGED, "each name has a minimum of its own"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"PK no zip", "no wheel", id="no zip"),
        pytest.param(damaged(zipfile.ZIP_DEFLATED), "no wheel", id="damaged deflate"),
        pytest.param(damaged(zipfile.ZIP_LZMA), "no wheel", id="damaged lzma"),
        pytest.param(encrypted(), "no wheel", id="encrypted"),
        pytest.param(wheel({"x.py": b""}), "no edge_agent", id="something else"),
        pytest.param(wheel({"../../keys/x": b"", "edge_agent/cli.py": b""}), "leads out", id="zip slip"),
        pytest.param(wheel({"/etc/x": b"", "edge_agent/cli.py": b""}), "leads out", id="absolute"),
    ],
)
async def test_an_archive_that_is_no_agent_is_refused(site: Site, content: bytes, says: str) -> None:
    status = await site.take(site.signed(content))
    assert status.state == UpdateStatus.STATE_REFUSED
    assert says in status.reason
    assert site.staged is None
    assert not (site.folder.parent / "keys").exists()


async def test_firmware_lies_complete_for_who_installs_it(site: Site) -> None:
    signed = site.signed(b"mpy", kind="firmware", name="relay", board="rp2")
    assert (await site.take(signed)).state == UpdateStatus.STATE_STAGED
    assert (site.folder / "updates" / "firmware" / "relay" / "current" / "agent.whl").read_bytes() == b"mpy"


async def test_the_version_before_does_not_answer_for_the_one_that_is_being_fetched(site: Site) -> None:
    first = site.signed()
    await site.take(first)
    digest = hashlib.sha256(first.manifest).hexdigest()
    (site.folder / "updates" / "slots.json").write_text(
        json.dumps({"good": digest, "trial": "", "outcomes": {digest: {"state": "healthy", "reason": ""}}})
    )
    assert [status.state for status in site.updater.statuses()] == [UpdateStatus.STATE_HEALTHY]
    told: list[tuple[str, int]] = []
    both = asyncio.Event()

    def note() -> None:
        told.extend((each.version, each.state) for each in site.updater.statuses())
        if len(told) == 2:
            both.set()

    site.updater._changed = note
    site.updater.want([site.signed(wheel({"edge_agent/cli.py": b"1"}), version=[1, 3, 0])])
    task = asyncio.create_task(site.updater.run())
    async with asyncio.timeout(20):
        await both.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == [("1.3.0", UpdateStatus.STATE_FETCHING), ("1.3.0", UpdateStatus.STATE_STAGED)]
