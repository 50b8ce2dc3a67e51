"""A new firmware through the gateway: what is taken, what is refused, and the way back at every step."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import firmware_image, manifest

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
ORDER = (1 << 252) + 27742317777372353535851937790883648493

# RFC 8032, section 7.1: public key, signature, message
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        "",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        "72",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        "af82",
    ),
]  # fmt: skip

IDLE, RECEIVING, RECEIVED, VERIFYING, VERIFIED, SWITCHING, TRIAL, HEALTHY, REFUSED = range(9)
NONE, CHECKSUM, SHAPE, SIGNATURE, NO_KEY, BOARD, NAME, VERSION, CONTENT, FLASH, ROLLED_BACK = range(11)
VERIFY, SWITCH, CONFIRM, ABORT = range(1, 5)


def image_of(
    files: dict[str, bytes],
    version: tuple[int, int, int] = (1, 0, 0),
    *,
    minimum: tuple[int, int, int] = (0, 0, 0),
    name: str = "meter",
    board: str = "unix",
    key: Ed25519PrivateKey = KEY,
) -> bytes:
    described = firmware_image.described(
        files, name=name, board=board, version=version, minimum_version=minimum, issued_ms=1
    )
    return firmware_image.pack(described, key.sign(manifest.CONTEXT + described), files)


def play(run: Any, folder: Path, steps: list[list[Any]], key: str = PUBLIC) -> list[list[Any]]:
    (folder / "steps.json").write_text(json.dumps(steps))
    return run("take.py", folder, key, folder / "steps.json")


def test_signatures_of_rfc_8032(on_both: Any, tmp_path: Path) -> None:
    cases = [list(case) for case in RFC_8032]
    for key, signature, message in RFC_8032:
        cases += [[key, signature, message + "00"], [PUBLIC, signature, message]]
    (tmp_path / "cases").write_text(json.dumps(cases))
    assert on_both("verify.py", tmp_path / "cases") == [True] * 3 + [False] * 6


def test_signatures_as_cryptography_makes_them_and_damaged_ones(on_both: Any, tmp_path: Path) -> None:
    rng = random.Random(4)
    cases, good = [], []
    for length in (0, 1, 63, 64, 111, 112, 900):
        key, message = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)), rng.randbytes(length)
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        cases.append((public, signature, message))
        good.append(True)
        for damaged in range(3):
            parts = [bytearray(public), bytearray(signature), bytearray(message or b"\0")]
            parts[damaged][rng.randrange(len(parts[damaged]))] ^= 1 << rng.randrange(8)
            cases.append((bytes(parts[0]), bytes(parts[1]), bytes(parts[2])))
            good.append(False)
        # The same scalar, encoded a second time: RFC 8032 5.1.7 refuses it, else a signature would not be unique.
        second = int.from_bytes(signature[32:], "little") + ORDER
        cases.append((public, signature[:32] + second.to_bytes(32, "little"), message))
        good.append(False)
    # No points: y is not below p; x = 0 with its sign set; too short.
    cases += [(b"\xff" * 32, signature, message), (b"\x01" + bytes(30) + b"\x80", signature, message)]
    cases += [(public, signature[:63], message), (public[:31], signature, message)]
    good += [False] * 4
    (tmp_path / "cases").write_text(json.dumps([[part.hex() for part in case] for case in cases]))
    assert on_both("verify.py", tmp_path / "cases") == good


def test_sha_512_against_the_library(on_both: Any, tmp_path: Path) -> None:
    messages = [random.Random(n).randbytes(n) for n in (0, 1, 111, 112, 127, 128, 129, 1000)]
    (tmp_path / "messages").write_text(json.dumps([message.hex() for message in messages]))
    assert on_both("digest.py", tmp_path / "messages") == [hashlib.sha512(m).hexdigest() for m in messages]


def test_an_update_is_staged_verified_tried_and_kept(on_both: Any, tmp_path: Path) -> None:
    files = {"app.py": b"x = 1\n" * 100, "other.mpy": bytes(range(256))}
    image = tmp_path / "image"
    image.write_bytes(image_of(files, (1, 2, 3), minimum=(1, 0, 0)))
    size = len(image.read_bytes())
    told = play(
        on_both,
        tmp_path,
        [
            ["begin", str(image)],
            ["command", VERIFY],  # not yet: it is not there
            ["chunks", str(image), 0, 512],
            ["start"],  # the power fails; the transfer goes on
            ["begin", str(image)],
            ["chunks", str(image), 0, 9999],  # what is there already, and what does not join on, is left out
            ["command", SWITCH],  # not before it is verified
            ["command", VERIFY],
            ["command", SWITCH],
            ["start"],
            ["command", CONFIRM],  # not before it has done well
            ["good", 249],
            ["good", 1],
            ["command", CONFIRM],
            ["start"],
        ],
    )
    old, new = [0, 1, 0], [1, 2, 3]
    assert told == [
        [RECEIVING, NONE, 0, "", "good", old],
        [RECEIVING, NONE, 0, "", "good", old],
        [RECEIVING, NONE, 512, "", "good", old],
        [RECEIVING, NONE, 512, "", "good", old],
        [RECEIVING, NONE, 512, "", "good", old],
        [RECEIVED, NONE, size, "", "good", old],
        [RECEIVED, NONE, size, "", "good", old],
        [VERIFIED, NONE, size, "", "good", old],
        [SWITCHING, NONE, size, "a", "fresh", old],
        [TRIAL, NONE, 0, "a", "tried", new],
        [TRIAL, NONE, 0, "a", "tried", new],
        [TRIAL, NONE, 0, "a", "tried", new],
        [HEALTHY, NONE, 0, "a", "tried", new],
        [IDLE, NONE, 0, "a", "good", new],
        [IDLE, NONE, 0, "a", "good", new],
    ]
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == files
    assert not (tmp_path / "stage.img").exists()
    # The next one goes into the other slot; below what the last one demanded nothing is taken.
    older, lowest = tmp_path / "older", tmp_path / "lowest"
    older.write_bytes(image_of(files, (0, 9, 9)))
    lowest.write_bytes(image_of(files, (1, 0, 0)))
    whole = [["chunks", str(older), 0, 9999], ["command", VERIFY]]
    assert play(on_both, tmp_path, [["begin", str(older)], *whole])[-1][:2] == [REFUSED, VERSION]
    told = play(
        on_both,
        tmp_path,
        [["begin", str(lowest)], ["chunks", str(lowest), 0, 9999], ["command", VERIFY], ["command", SWITCH]],
    )
    assert told[-1][:2] == [SWITCHING, NONE]
    assert told[-1][3:5] == ["b", "fresh"]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("arrived damaged", CHECKSUM),
        ("no image", SHAPE),
        ("manifest of another shape", SHAPE),
        ("into a folder of its own", SHAPE),
        ("signed by another", SIGNATURE),
        ("manifest changed", SIGNATURE),
        ("for another board", BOARD),
        ("for another program", NAME),
        ("file changed", CONTENT),
        ("cut off", SHAPE),
        ("nobody's is taken", NO_KEY),
    ],
)
def test_what_is_not_right_is_refused_with_its_reason(on_both: Any, tmp_path: Path, broken: str, why: int) -> None:
    files = {"app.py": b"x = 1\n" * 50}
    good = image_of(files)
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    shapeless = b'{"kind":"firmware"}'
    image, crc = {
        "arrived damaged": (good[:-1] + b"!", [1]),
        "no image": (b"x" * 200, []),
        "manifest of another shape": (
            b"VPI1" + len(shapeless).to_bytes(4, "little") + KEY.sign(manifest.CONTEXT + shapeless) + shapeless, []
        ),
        "into a folder of its own": (image_of({"lib/app.py": b"1"}), []),
        "signed by another": (image_of(files, key=other), []),
        "manifest changed": (good.replace(b'"version":[1,0,0]', b'"version":[9,0,0]', 1), []),
        "for another board": (image_of(files, board="rp2040"), []),
        "for another program": (image_of(files, name="relay"), []),
        "file changed": (good[:-1] + b"!", []),
        "cut off": (good[:-1], []),
        "nobody's is taken": (good, []),
    }[broken]  # fmt: skip
    file = tmp_path / "image"
    file.write_bytes(image)
    told = play(
        on_both,
        tmp_path,
        [["begin", str(file), *crc], ["chunks", str(file), 0, 9999], ["command", VERIFY], ["command", SWITCH]],
        key="" if broken == "nobody's is taken" else PUBLIC,
    )
    assert told[-1][:2] == [REFUSED, why]
    assert told[-1][3:5] == ["", "good"]
    assert not (tmp_path / "a").exists()


def test_a_firmware_that_is_not_confirmed_gets_one_start(on_both: Any, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(image_of({"app.py": b"1"}))
    steps: list[list[Any]] = [["begin", str(image)], ["chunks", str(image), 0, 9999], ["command", VERIFY]]
    told = play(on_both, tmp_path, [*steps, ["command", SWITCH], ["start"], ["start"]])
    assert told[-2][3:] == ["a", "tried", [1, 0, 0]]
    assert told[-1][1] == ROLLED_BACK
    assert told[-1][3:] == ["", "good", [0, 1, 0]]
    # A gateway may also call it off, and the same image may be tried again.
    told = play(on_both, tmp_path, [*steps, ["command", SWITCH], ["start"], ["command", ABORT], ["start"], ["start"]])
    assert told[-1][1] == ROLLED_BACK
    assert told[-1][3:] == ["", "good", [0, 1, 0]]


@pytest.mark.parametrize(("vm", "every"), [("on_cpython", 11), ("on_vm", 3)])
def test_no_damaged_image_and_no_mad_gateway_gets_a_firmware_to_run(
    request: pytest.FixtureRequest, tmp_path: Path, vm: str, every: int
) -> None:
    image = tmp_path / "image"
    image.write_bytes(image_of({"app.py": b"x = 1\n" * 10}))
    arguments = ("update_fuzz.py", tmp_path, PUBLIC, image, every, 5)
    ((verified, reasons, ran),) = request.getfixturevalue(vm)(*arguments)
    assert (verified, ran) == (0, 0)
    assert sum(reasons.values()) == len(range(0, len(image.read_bytes()), every))
    assert set(reasons) == {str(SHAPE), str(SIGNATURE), str(CONTENT)}


@pytest.mark.parametrize(("vm", "every"), [("on_cpython", 23), ("on_vm", 3)])
def test_the_power_may_fail_at_any_byte(request: pytest.FixtureRequest, tmp_path: Path, vm: str, every: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(image_of({"app.py": b"old\n"}, (1, 0, 0)))
    new.write_bytes(image_of({"app.py": b"new\n"}, (2, 0, 0)))
    ((total, cuts, found),) = request.getfixturevalue(vm)("update_cut.py", tmp_path, PUBLIC, old, new, every)
    assert total > 800
    assert cuts == len(range(0, total, every))
    assert set(found) == {"1 old", "2 new"}  # never half of one, never none
    assert sum(found.values()) == cuts
