"""update_cut.py FOLDER KEY OLD NEW STEP: the power fails at every STEP-th byte that an update from OLD to NEW writes.

After each cut the node starts, and must find a whole firmware: OLD, or NEW once it was switched to. Then the update is
done again to its end. Prints how many cuts left which firmware. The signature is verified once and its result
remembered, since nothing is written meanwhile.
"""

import binascii
import builtins
import json
import os
import sys

import ed25519
import store
import update
from slots import Slots
from update import CONFIRM, HEALTHY, SWITCH, VERIFY, Updater

folder, key, old, new, every = sys.argv[1:]
_real_open = builtins.open
_real_verifying = ed25519.verifying
_remembered = {}


class PowerCut(Exception):
    pass


class Supply:
    """Counts the bytes written, and fails at one of them."""

    left = None
    written = 0


class Flash:
    """A file that takes bytes until the power fails."""

    def __init__(self, file):
        self._file = file

    def write(self, data):
        Supply.written += len(data)
        if Supply.left is not None:
            if len(data) > Supply.left:
                self._file.write(data[: Supply.left])
                self._file.close()
                raise PowerCut()
            Supply.left -= len(data)
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def supplied(path, mode="r"):
    file = _real_open(path, mode)
    return Flash(file) if "w" in mode or "a" in mode else file


def verifying(public, signature, message):
    if signature not in _remembered:
        _remembered[signature] = yield from _real_verifying(public, signature, message)
    return _remembered[signature]


if sys.implementation.name == "cpython":
    os.sync = lambda: None  # it waits for every disk of the machine
update.open = store.open = supplied
ed25519.verifying = verifying


def start():
    slots = Slots(folder)
    slots.boot()
    return slots, Updater(folder, slots, binascii.unhexlify(key), "unix", "meter", slots.version or [0, 1, 0])


def run(updater):
    while updater.step():
        pass


def install(image):
    """From wherever the node stands to the new firmware's confirmation."""
    updater = start()[1]
    updater.begin(len(image), binascii.crc32(image))
    while updater.have < len(image):
        updater.chunk(updater.have, image[updater.have : updater.have + 128])
    updater.command(VERIFY)
    run(updater)
    updater.command(SWITCH)
    run(updater)
    if updater.restart:
        updater = start()[1]
    for _ in range(update.GOOD_CYCLES):
        updater.good_cycle()
    assert updater.state == HEALTHY, updater.state
    updater.command(CONFIRM)


def content():
    """What would run now: its version, and what its only file says."""
    slots = Slots(folder)
    path = slots.boot()
    with _real_open(path + "/app.py") as file:
        return slots, file.read()


def read(name):
    with _real_open(name, "rb") as file:
        return file.read()


images = read(old), read(new)
install(images[0])
Supply.written = 0
install(images[1])
total = Supply.written
found = {}
cuts = 0
for cut in range(0, total, int(every)):
    install(images[0])
    Supply.left = cut
    try:
        install(images[1])
    except PowerCut:
        cuts += 1
    Supply.left = None
    slots, text = content()
    said = str(slots.version[0]) + " " + text.strip()
    found[said] = found.get(said, 0) + 1
    install(images[1])
    slots, text = content()
    assert (slots.version[0], text.strip(), slots.state) == (2, "new", "good"), (cut, slots.version, text, slots.state)
print(json.dumps([total, cuts, found]))
