"""Small records in flash, each in two copies: whatever byte the power fails at, one valid copy is left.

A copy is: magic, sequence number, length, CRC-32 of all that, the content, its CRC-32. The older copy is overwritten.
"""

import binascii
import os
import struct

MAGIC = b"MUR1"
_HEAD = "<4sII"


class Store:
    """The record `name` in `folder`."""

    def __init__(self, folder, name):
        self._paths = (folder + "/" + name + ".0", folder + "/" + name + ".1")

    def load(self):
        """The newest valid content, None where there is none."""
        newest = self._newest()
        return None if newest is None else newest[2]

    def save(self, content):
        """Raises OSError where the flash cannot be written; the last content is then still there."""
        newest = self._newest()
        sequence, slot = (1, 0) if newest is None else (newest[0] + 1, 1 - newest[1])
        head = struct.pack(_HEAD, MAGIC, sequence, len(content))
        with open(self._paths[slot], "wb") as file:
            file.write(head)
            file.write(struct.pack("<I", binascii.crc32(head)))
            file.write(content)
            file.write(struct.pack("<I", binascii.crc32(content)))
        if hasattr(os, "sync"):
            os.sync()

    def _newest(self):
        found = None
        for slot in (0, 1):
            copy = self._read(slot)
            if copy is not None and (found is None or copy[0] > found[0]):
                found = (copy[0], slot, copy[1])
        return found

    def _read(self, slot):
        try:
            with open(self._paths[slot], "rb") as file:
                raw = file.read()
        except OSError:
            return None
        size = struct.calcsize(_HEAD)
        if len(raw) < size + 8:
            return None
        magic, sequence, length = struct.unpack(_HEAD, raw[:size])
        if magic != MAGIC or struct.unpack("<I", raw[size : size + 4])[0] != binascii.crc32(raw[:size]):
            return None
        content = raw[size + 4 : size + 4 + length]
        if len(raw) != size + 8 + length or struct.unpack("<I", raw[-4:])[0] != binascii.crc32(content):
            return None
        return sequence, content
