"""Which updates are staged: signed ones, complete, no older than may be, and nowhere but in their own place."""

import asyncio
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge_agent.tests.sync.shelf import GOOD, KEY, OTHER, Site, wheel
from protos import firmware_image
from protos.vpp.v1.site_pb2 import UpdateStatus


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
    firmware = site.signed(image(version=(0, 0, 1)), kind="firmware", name="relay", board="rp2", version=[0, 0, 1])
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


def image(**changed: Any) -> bytes:
    """A firmware image; its signature is its microcontroller's business."""
    modules = {"main.py": b"pass"}
    fields: dict[str, Any] = {"name": "relay", "board": "rp2", "version": (1, 2, 0), **changed}
    described = firmware_image.described(modules, minimum_version=(0, 0, 0), issued_ms=1, **fields)
    return firmware_image.pack(described, bytes(64), modules)


async def test_firmware_lies_complete_for_who_installs_it_and_control_says_what_came_of_it(site: Site) -> None:
    signed = site.signed(image(), kind="firmware", name="relay", board="rp2")
    assert (await site.take(signed)).state == UpdateStatus.STATE_STAGED
    assert (site.folder / "updates" / "firmware" / "relay" / "current" / "agent.whl").read_bytes() == image()
    for version, state in (("1.1.0", UpdateStatus.STATE_HEALTHY), ("1.2.0", UpdateStatus.STATE_ROLLED_BACK)):
        told = UpdateStatus(kind="firmware", name="relay", version=version, state=state, reason="heater: it says so")
        site.updater.deliver([told])
        [status] = site.updater.statuses()
        expected = (
            told
            if version == "1.2.0"
            else UpdateStatus(kind="firmware", name="relay", version="1.2.0", state=UpdateStatus.STATE_STAGED)
        )
        assert status == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"mpy", "firmware image: is none", id="no image"),
        pytest.param(image(name="meter"), "its name is meter", id="another program"),
        pytest.param(image(board="esp32"), "its board is esp32", id="another board"),
        pytest.param(image(version=(9, 0, 0)), "its version is [9, 0, 0]", id="another version"),
    ],
)
async def test_a_firmware_that_is_not_what_its_update_says_is_refused(site: Site, content: bytes, says: str) -> None:
    status = await site.take(site.signed(content, kind="firmware", name="relay", board="rp2"))
    assert status.state == UpdateStatus.STATE_REFUSED
    assert says in status.reason


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
