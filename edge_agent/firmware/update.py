"""A new firmware, from a gateway into the spare slot: taken in, verified, unpacked, and on trial after a restart.

An image is `MAGIC`, the manifest's length (4 bytes, lowest first), the Ed25519 signature (64 bytes) over
`manifest.CONTEXT` + manifest, the manifest (`protos/manifest.py` says what is in it), and the files in its order.

Nothing here happens in the control path: the loop asks for a `step` where it would rest. The image is staged as it
comes and everything about it is believed only after the signature; what runs is not touched before the switch, which
is one record in flash.
"""

import binascii
import hashlib
import os
import struct

from store import Store

IDLE, RECEIVING, RECEIVED, VERIFYING, VERIFIED, SWITCHING, TRIAL, HEALTHY, REFUSED = range(9)
NONE, CHECKSUM, SHAPE, SIGNATURE, KEY, BOARD, NAME, VERSION, CONTENT, FLASH, ROLLED_BACK = range(11)
VERIFY, SWITCH, CONFIRM, ABORT = range(1, 5)

MAGIC = b"VPI1"
HEAD = 72  # bytes before the manifest
LARGEST_MANIFEST = 8192
LARGEST_IMAGE = 1 << 20
GOOD_CYCLES = 250  # 5 s of frequency that may be acted upon make a firmware on trial healthy
TRIAL_MS = 120_000  # a gateway that has not confirmed it by then does not
_SLICE = 256


class Refused(Exception):
    """The image is not taken; `args[0]` is the reason's number."""


class Updater:
    """`begin`, `chunk` and `command` are what a gateway writes; `state`, `why` and `have` what it reads."""

    def __init__(self, folder, slots, key, board, program, version):
        """key: 32 bytes, None: no update is taken. version: of what runs, [major, minor, patch]."""
        self._slots = slots
        self._key = key
        self._board = board
        self._program = program
        self.version = version
        self._stage = folder + "/stage.img"
        self._store = Store(folder, "stage")
        self._work = None
        self._manifest = None
        self._files_at = 0
        self._good = 0
        self.state = TRIAL if slots.on_trial else IDLE
        self.why = ROLLED_BACK if slots.rolled_back else NONE
        self.size = self.crc = self.have = 0
        self.restart = False  # the node shall start again
        raw = self._store.load()
        if raw and not slots.on_trial:
            self._resume(*struct.unpack("<II", raw))

    def begin(self, size, crc):
        """An image of `size` bytes whose CRC-32 is `crc`; goes on where it ended if it is the one begun last."""
        if self._slots.on_trial or self._work is not None:
            return
        if not HEAD < size <= LARGEST_IMAGE:
            self.state, self.why = REFUSED, SHAPE
        elif size != self.size or crc != self.crc or self.state in (IDLE, REFUSED):
            try:
                _remove(self._stage)
                self._store.save(struct.pack("<II", size, crc))
            except OSError:
                self.state, self.why = REFUSED, FLASH
                return
            self._manifest = None
            self.why = NONE
            self._resume(size, crc)
        elif self.why == ROLLED_BACK:
            self.why = NONE

    def chunk(self, offset, data):
        """The bytes from `offset` on. Those that do not join what is there are left out: `have` says where to go on."""
        if self.state != RECEIVING or offset != self.have or self.have + len(data) > self.size:
            return
        try:
            with open(self._stage, "ab") as file:
                file.write(data)
        except OSError:
            self.state, self.why = REFUSED, FLASH
            return
        self.have += len(data)
        if self.have == self.size:
            self.state = RECEIVED

    def command(self, number):
        if number == ABORT:
            self._abort()
        elif number == VERIFY and self.state == RECEIVED:
            self.state = VERIFYING
            self._work = self._verify()
        elif number == SWITCH and self.state == VERIFIED:
            self.state = SWITCHING
            self._work = self._unpack(self._manifest)
        elif number == CONFIRM and self.state == HEALTHY:
            self._slots.commit()
            self._forget()
            self.state, self.why = IDLE, NONE

    def step(self):
        """A little of the work under way; False where there is none."""
        if self._work is None:
            return False
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        except Refused as refused:
            self._work = None
            self.state, self.why = REFUSED, refused.args[0]
        except OSError:
            self._work = None
            self.state, self.why = REFUSED, FLASH
        return True

    def good_cycle(self):
        """A frequency that may be acted upon was there."""
        if self.state == TRIAL:
            self._good += 1
            if self._good >= GOOD_CYCLES:
                self.state = HEALTHY

    def overdue(self):
        """The trial is over and nobody confirmed it: what ran before shall run."""
        self._slots.roll_back()
        self.restart = True

    def _abort(self):
        if self._slots.on_trial:
            self.overdue()
            return
        self._work = None
        self._forget()
        self.state, self.why = IDLE, NONE

    def _forget(self):
        self._manifest = None
        self.size = self.crc = self.have = 0
        self._store.save(b"")
        _remove(self._stage)

    def _resume(self, size, crc):
        self.size, self.crc = size, crc
        self.have = min(_size(self._stage), size)
        self.state = RECEIVED if self.have == size else RECEIVING

    # ---- the work, a step at a time

    def _verify(self):
        crc = 0
        with open(self._stage, "rb") as file:
            while part := file.read(_SLICE):
                crc = binascii.crc32(part, crc)
                yield
        if crc != self.crc:
            raise Refused(CHECKSUM)
        with open(self._stage, "rb") as file:
            head = file.read(HEAD)
            length = struct.unpack("<I", head[4:8])[0]
            if head[:4] != MAGIC or not 0 < length <= LARGEST_MANIFEST:
                raise Refused(SHAPE)
            raw = file.read(length)
        # Loaded only now: a node that is never updated keeps the room.
        import manifest
        from ed25519 import verifying

        if self._key is None:
            raise Refused(KEY)
        good = yield from verifying(self._key, head[8:], manifest.CONTEXT + raw)
        if not good:
            raise Refused(SIGNATURE)
        try:
            found = manifest.decode(raw)
        except manifest.ManifestError:
            raise Refused(SHAPE) from None
        yield
        self._judge(found)
        at = HEAD + length
        if at + sum([entry["size"] for entry in found["files"]]) != self.size:
            raise Refused(SHAPE)
        with open(self._stage, "rb") as file:
            file.seek(at)
            for entry in found["files"]:
                yield from _hashed(file, entry, None)
        self._files_at = at
        self._manifest = found
        self.state = VERIFIED

    def _judge(self, found):
        if found["kind"] != "firmware" or found["name"] != self._program:
            raise Refused(NAME)
        if found["board"] != self._board:
            raise Refused(BOARD)
        if list(found["version"]) < self._slots.floor:
            raise Refused(VERSION)
        for entry in found["files"]:
            if "/" in entry["path"]:
                raise Refused(SHAPE)

    def _unpack(self, found):
        """Into the spare slot; what was written is read back and hashed once more, then it is the one to run."""
        slot = self._slots.path(self._slots.spare)
        _empty(slot)
        yield
        with open(self._stage, "rb") as image:
            image.seek(self._files_at)
            for entry in found["files"]:
                with open(slot + "/" + entry["path"], "wb") as target:
                    yield from _hashed(image, entry, target)
        for entry in found["files"]:
            with open(slot + "/" + entry["path"], "rb") as written:
                yield from _hashed(written, entry, None)
        if hasattr(os, "sync"):
            os.sync()
        self._slots.switch(list(found["version"]), list(found["minimum_version"]))
        self.restart = True


def _hashed(source, entry, target):
    """Reads a file's bytes, copies them to `target`, and refuses those that are not what the manifest says."""
    digest = hashlib.sha256()
    left = entry["size"]
    while left:
        part = source.read(min(_SLICE, left))
        if not part:
            raise Refused(CONTENT)
        left -= len(part)
        digest.update(part)
        if target is not None:
            target.write(part)
        yield
    if binascii.hexlify(digest.digest()).decode() != entry["sha256"]:
        raise Refused(CONTENT)


def _size(path):
    try:
        return os.stat(path)[6]
    except OSError:
        return 0


def _remove(path):
    if _size(path):
        os.remove(path)


def _empty(folder):
    """An empty folder, whatever was there."""
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
        os.mkdir(folder)
    for name in names:
        os.remove(folder + "/" + name)
