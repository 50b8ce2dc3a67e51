"""A firmware as it travels to a microcontroller: manifest, signature and files in one piece.

MAGIC, the manifest's length (4 bytes, lowest first), the Ed25519 signature (64 bytes) over `manifest.CONTEXT` and the
manifest, the manifest, then the files in the manifest's order. The microcontroller verifies it by itself
(`edge_agent/firmware/update.py`); what is checked here spares it an image that it would refuse.
"""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

from protos import manifest

MAGIC = b"VPI1"
_HEAD = struct.Struct("<4sI64s")


class ImageError(ValueError):
    """What is no firmware image; says why."""


def pack(described: bytes, signature: bytes, files: Mapping[str, bytes]) -> bytes:
    """An image of a manifest's bytes, its signature and its files by path. Raises ImageError, ManifestError."""
    paths = [entry["path"] for entry in manifest.decode(described)["files"]]
    if set(paths) != set(files):
        raise ImageError("firmware image: its files are not those of its manifest")
    image = _HEAD.pack(MAGIC, len(described), signature) + described + b"".join(files[path] for path in paths)
    unpack(image)
    return image


def unpack(image: bytes) -> tuple[dict[str, Any], bytes, bytes, dict[str, bytes]]:
    """Manifest, its bytes, signature and files. The signature is not verified. Raises ImageError."""
    try:
        magic, length, signature = _HEAD.unpack_from(image)
        described = image[_HEAD.size : _HEAD.size + length]
        if magic != MAGIC or len(described) != length:
            raise ImageError("firmware image: is none")
        found = manifest.decode(described)
    except (struct.error, manifest.ManifestError) as error:
        raise ImageError(f"firmware image: is none ({error})") from error
    at, files = _HEAD.size + length, dict[str, bytes]()
    for entry in found["files"]:
        files[entry["path"]] = data = image[at : at + entry["size"]]
        at += entry["size"]
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ImageError(f"firmware image: {entry['path']} is not what the manifest says")
    if at != len(image):
        raise ImageError("firmware image: is longer than its manifest says")
    return found, described, signature, files


def described(
    files: Mapping[str, bytes],
    *,
    name: str,
    board: str,
    version: tuple[int, int, int],
    minimum_version: tuple[int, int, int],
    issued_ms: int,
) -> bytes:
    """A firmware's manifest, to be signed after `manifest.CONTEXT`. Raises ManifestError."""
    return manifest.encode(
        {
            "kind": "firmware",
            "name": name,
            "board": board,
            "version": list(version),
            "minimum_version": list(minimum_version),
            "files": [
                {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for path, data in sorted(files.items())
            ],
            "issued": issued_ms,
        }
    )
