"""What an update is, signed: the manifest of an agent, a firmware or a model, on CPython and MicroPython alike.

A manifest is a JSON object in UTF-8, keys sorted, no spaces; its signature is a detached Ed25519 one over
`CONTEXT + manifest`, by the update key. Whoever installs verifies the bytes as they came, then parses them.

| key | is |
|---|---|
| `kind` | "agent", "firmware" or "model" |
| `name` | what is updated, e.g. "vpp-agent" |
| `version`, `minimum_version` | [major, minor, patch]; nothing below the minimum may be installed from then on |
| `board` | the board a firmware is for; empty for others |
| `files` | [{"path", "sha256", "size"}], paths relative, their hashes in lower-case hex |
| `issued` | UTC, milliseconds since 1970 |

Plain Python on purpose, as in frame.py.
"""

import json

CONTEXT = b"vpp-manifest-v1\0"
KINDS = ("agent", "firmware", "model")
MOST_FILES = 64
LARGEST_BYTES = 1 << 30  # of one file
LARGEST_MANIFEST_BYTES = 16384
_KEYS = ("board", "files", "issued", "kind", "minimum_version", "name", "version")
_FILE_KEYS = ("path", "sha256", "size")
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-"
_PATH_CHARACTERS = _NAME_CHARACTERS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ.+/"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ManifestError(ValueError):
    """A manifest that is none; says where."""


def encode(manifest: "dict[str, Any]") -> bytes:
    """The bytes to be signed. Raises ManifestError. For CPython only."""
    check(manifest)
    data = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if len(data) > LARGEST_MANIFEST_BYTES:
        raise ManifestError("manifest: longer than %d bytes" % LARGEST_MANIFEST_BYTES)  # noqa: UP031
    return data


def decode(data: bytes) -> "dict[str, Any]":
    """The manifest in bytes whose signature was verified. Raises ManifestError."""
    if len(data) > LARGEST_MANIFEST_BYTES:
        raise ManifestError("manifest: longer than %d bytes" % LARGEST_MANIFEST_BYTES)  # noqa: UP031
    try:
        manifest = json.loads(data.decode())
    except (ValueError, RecursionError, RuntimeError) as error:
        raise ManifestError("manifest: is no JSON") from error
    return check(manifest)


def check(manifest: "Any") -> "dict[str, Any]":
    """The manifest itself. Raises ManifestError for what is none."""
    if not isinstance(manifest, dict) or sorted(manifest) != list(_KEYS):
        raise ManifestError("manifest: must have exactly " + ", ".join(_KEYS))
    if manifest["kind"] not in KINDS:
        raise ManifestError("manifest: kind is one of " + ", ".join(KINDS))
    _name(manifest["name"], "name")
    if manifest["board"] != "":
        _name(manifest["board"], "board")
    if (manifest["kind"] == "firmware") != (manifest["board"] != ""):
        raise ManifestError("manifest: board is for a firmware, and a firmware needs it")
    version = _version(manifest["version"], "version")
    if _version(manifest["minimum_version"], "minimum_version") > version:
        raise ManifestError("manifest: minimum_version is above version")
    if not _is_count(manifest["issued"]):
        raise ManifestError("manifest: issued is no instant")
    files = manifest["files"]
    if not isinstance(files, list) or not 1 <= len(files) <= MOST_FILES:
        raise ManifestError("manifest: files must be 1 to %d" % MOST_FILES)  # noqa: UP031
    paths = set()
    for entry in files:
        if not isinstance(entry, dict) or sorted(entry) != list(_FILE_KEYS):
            raise ManifestError("manifest: a file must have exactly " + ", ".join(_FILE_KEYS))
        paths.add(_path(entry["path"]))
        if not _is_count(entry["size"]) or entry["size"] > LARGEST_BYTES:
            raise ManifestError("manifest: size of %s" % entry["path"])  # noqa: UP031
        digest = entry["sha256"]
        if not isinstance(digest, str) or len(digest) != 64 or any(c not in "0123456789abcdef" for c in digest):
            raise ManifestError("manifest: sha256 of %s" % entry["path"])  # noqa: UP031
    if len(paths) != len(files):
        raise ManifestError("manifest: a path is given twice")
    checked: dict[str, Any] = manifest
    return checked


def _is_count(value: "Any") -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _version(value: "Any", key: str) -> "tuple[int, int, int]":
    if not isinstance(value, list) or len(value) != 3 or not all(_is_count(part) for part in value):
        raise ManifestError("manifest: %s is [major, minor, patch]" % key)  # noqa: UP031
    return value[0], value[1], value[2]


def _name(value: "Any", key: str) -> None:
    good = isinstance(value, str) and 0 < len(value) < 64 and all(c in _NAME_CHARACTERS for c in value)
    if not good or value[0] in "_-":
        raise ManifestError("manifest: %s: use 1 to 63 of a-z 0-9 _ -" % key)  # noqa: UP031


def _path(value: "Any") -> str:
    if not isinstance(value, str) or not 0 < len(value) < 200 or any(c not in _PATH_CHARACTERS for c in value):
        raise ManifestError("manifest: a path is none")
    for part in value.split("/"):
        if part in ("", ".", ".."):
            raise ManifestError("manifest: path %s leads elsewhere" % value)  # noqa: UP031
    return value
