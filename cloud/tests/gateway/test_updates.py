"""Updates from the command to the site that may fetch them, and to no other."""

import importlib.resources
import io
import json
import zipfile
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloud.store.ledger import Ledger
from cloud.testing import Gateway, Plant
from protos import firmware_image
from protos import manifest as manifests
from protos.vpp.v1 import site_pb2


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


WHEEL = {"edge_agent/cli.py": bytes(range(256)) * 1024, "murmuration_vpp-1.2.3.dist-info/METADATA": b""}
CONTENT = archive(WHEEL)  # four chunks and a little
DESCRIPTION = site_pb2.SiteDescription(rated_power_w=5000, soc_min=0.1, soc_max=0.9)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


async def published(plant: Plant, folder: Path, version: str = "1.2.3") -> str:
    file = folder / "agent.whl"
    file.write_bytes(CONTENT)
    assert await plant.command("update", "publish", str(file), "--version", version) == 0
    with Ledger(plant.data.ledger) as ledger:
        return ledger.updates()[0].digest


async def fetched(gateway: Gateway, sha256: str, offset: int = 0) -> bytes:
    async with gateway.sites() as stub:
        request = site_pb2.DownloadRequest(sha256=sha256, offset=offset)
        return b"".join([chunk.data async for chunk in stub.Download(request, timeout=20)])


async def told(gateway: Gateway, *states: site_pb2.UpdateStatus) -> list[site_pb2.SignedManifest]:
    description = site_pb2.SiteDescription()
    description.CopyFrom(DESCRIPTION)
    description.updates.extend(states)
    async with gateway.sites() as stub:
        return list((await stub.Configure(description, timeout=20)).updates)


async def test_a_site_fetches_its_own_update_with_resume_and_tells_how_it_went(plant: Plant, tmp_path: Path) -> None:
    async with plant.running():
        mine, other = [await plant.enrol(await plant.claim(site)) for site in ("home-01", "home-02")]
        digest = await published(plant, tmp_path)
        assert await told(mine) == []
        assert await plant.command("update", "roll-out", digest[:12], "--site", "home-01") == 0
        [signed] = await told(mine)
        Ed25519PublicKey.from_public_bytes(mine.credentials.command_keys[0]).verify(
            signed.signature, manifests.CONTEXT + signed.manifest
        )
        [file] = manifests.decode(signed.manifest)["files"]
        assert await fetched(mine, file["sha256"]) == CONTENT
        assert await fetched(mine, file["sha256"], 100_000) == CONTENT[100_000:]
        assert await fetched(mine, file["sha256"], len(CONTENT)) == b""
        for site, sha256, offset, code in (
            (other, file["sha256"], 0, grpc.StatusCode.NOT_FOUND),
            (mine, "../keys/ca.key", 0, grpc.StatusCode.NOT_FOUND),
            (mine, file["sha256"], len(CONTENT) + 1, grpc.StatusCode.OUT_OF_RANGE),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await fetched(site, sha256, offset)
            assert error.value.code() is code

        status = site_pb2.UpdateStatus(kind="agent", name="vpp-agent", version="1.2.3")
        status.state, status.reason = site_pb2.UpdateStatus.STATE_ROLLED_BACK, "it ended with code 3"
        await told(mine, status)
        status.version = "1.2.2"
        status.state = site_pb2.UpdateStatus.STATE_HEALTHY
        await told(mine, status)
        await told(other, status)
    assert await plant.command("update", "show") == 1
    with Ledger(plant.data.ledger) as ledger:
        [known] = ledger.site_updates()
        assert (known.site, known.state, known.reason) == ("home-01", "rolled_back", "it ended with code 3")
        acts = [(e.action, e.actor) for e in ledger.audit_entries() if e.action.startswith("update.")]
    assert [act for act, _ in acts] == ["update.published", "update.ordered", "update.rolled_back"]
    assert acts[-1][1] == "site:home-01"


async def test_a_larger_share_has_the_smaller_one_in_it(plant: Plant, tmp_path: Path) -> None:
    async with plant.running():
        for number in range(10):
            await plant.claim(f"home-{number}")
        digest = await published(plant, tmp_path)
    seen: list[set[str]] = []
    with Ledger(plant.data.ledger) as ledger:
        for share in ("0.01", "0.35", "1"):
            assert await plant.command("update", "roll-out", digest, "--all", "--share", share) == 0
            seen.append({each.site for each in ledger.site_updates()})
        ordered = [json.loads(e.detail)["sites"] for e in ledger.audit_entries() if e.action == "update.ordered"]
    assert [len(sites) for sites in seen] == [1, 4, 10]
    assert seen[0] < seen[1] < seen[2]
    assert sum(len(sites.split(",")) for sites in ordered) == 10, "each once"


MODEL = importlib.resources.files("edge_agent.forecast") / "site-forecast.onnx"
FILES = {
    "text.whl": b"no archive",
    "bare.whl": archive({"edge_agent/cli.py": b""}),
    "library.whl": archive({"library-1.0.dist-info/METADATA": b""}),
    "text.onnx": b"no model",
    "other.onnx": b"",
    "image": b"VPI1 is how an image begins",
}


@pytest.mark.parametrize(
    ("file", "arguments", "says"),
    [
        pytest.param("text.whl", (), "text.whl: is no wheel", id="text as a wheel"),
        pytest.param("bare.whl", (), "it has no .dist-info", id="an archive as a wheel"),
        pytest.param("library.whl", (), "no agent is in it", id="a wheel without an agent"),
        pytest.param(
            "text.onnx", ("--kind", "model", "--name", "site-forecast"), "is no ONNX model", id="text as a model"
        ),
        pytest.param(
            "model.onnx", ("--kind", "model", "--name", "price"), "agents run no such model", id="unknown model"
        ),
        pytest.param(
            "library.whl", ("--kind", "model", "--name", "site-forecast"), "ends in .onnx", id="a wheel as a model"
        ),
        pytest.param("image", ("--kind", "firmware", "--name", "relay", "--board", "rp2"), "is none", id="no image"),
    ],
)
async def test_only_what_the_kind_is_gets_published(
    plant: Plant, tmp_path: Path, file: str, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / file
    path.write_bytes(FILES.get(file) or MODEL.read_bytes())
    async with plant.running():
        pass
    capsys.readouterr()
    assert await plant.command("update", "publish", str(path), "--version", "1.0.0", *arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("vpp-cloud: update publish: ")
    assert said.count("\n") == 1
    with Ledger(plant.data.ledger) as ledger:
        assert ledger.updates() == []
        assert not [entry for entry in ledger.audit_entries() if entry.action.startswith("update.")]


async def test_a_firmware_is_published_as_what_its_image_says(
    plant: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {"main.py": b"pass"}
    described = firmware_image.described(
        modules, name="relay", board="rp2", version=(1, 2, 0), minimum_version=(1, 0, 0), issued_ms=1
    )
    path = tmp_path / "relay.image"
    path.write_bytes(firmware_image.pack(described, bytes(64), modules))
    async with plant.running():
        pass
    for name, board, version, code, says in (
        ("meter", "rp2", "1.2.0", 2, "its name is relay; give --name relay instead of meter"),
        ("relay", "esp32", "1.2.0", 2, "its board is rp2; give --board rp2 instead of esp32"),
        ("relay", "rp2", "1.2.1", 2, "its version is 1.2.0; give --version 1.2.0 instead of 1.2.1"),
        ("relay", "rp2", "1.2.0", 0, ""),
    ):
        capsys.readouterr()
        arguments = ("--kind", "firmware", "--name", name, "--board", board, "--version", version)
        assert await plant.command("update", "publish", str(path), *arguments) == code
        assert says in capsys.readouterr().err
    with Ledger(plant.data.ledger) as ledger:
        assert [(each.kind, each.name, each.version) for each in ledger.updates()] == [("firmware", "relay", "1.2.0")]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("publish", "missing.whl", "--version", "1.0.0"), id="no file"),
        pytest.param(
            ("publish", __file__, "--version", "1.0.0", "--kind", "firmware", "--name", "relay"), id="no board"
        ),
        pytest.param(("publish", __file__, "--version", "1.0.0", "--minimum-version", "1.0.1"), id="minimum above it"),
        pytest.param(("publish", __file__, "--version", "1.0.0", "--key", __file__), id="no key"),
        pytest.param(("roll-out", "ff", "--all"), id="no such update"),
        pytest.param(("roll-out", "", "--group", "nobody"), id="no such group"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_line(
    plant: Plant, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    async with plant.running():
        await plant.claim("home-01")
    capsys.readouterr()
    assert await plant.command("update", *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("vpp-cloud: ")
    assert said.count("\n") == 1
