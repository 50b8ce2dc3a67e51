"""update_fuzz.py FOLDER KEY IMAGE EVERY SEED: what must never become a firmware.

First each EVERY-th byte of a good image is changed, with a checksum that fits; then a gateway gone mad writes whatever
it likes in whatever order. Prints how many damaged images were verified, the reasons of the others, and whether the
mad gateway got anything to run, or an exception out of the updater.
"""

import binascii
import json
import random
import sys

from slots import Slots
from update import SWITCHING, VERIFIED, Updater

folder, key, path, every, seed = sys.argv[1:]
random.seed(int(seed))
with open(path, "rb") as file:
    image = file.read()


def start():
    slots = Slots(folder)
    slots.boot()
    return slots, Updater(folder, slots, binascii.unhexlify(key), "unix", "meter", [0, 1, 0])


def work(updater):
    while updater.step():
        pass


verified = 0
reasons = {}
slots, updater = start()
for at in range(0, len(image), int(every)):
    damaged = image[:at] + bytes((image[at] ^ 1 << random.getrandbits(8) % 8,)) + image[at + 1 :]
    updater.begin(len(damaged), binascii.crc32(damaged))
    for offset in range(0, len(damaged), 128):
        updater.chunk(offset, damaged[offset : offset + 128])
    updater.command(1)
    work(updater)
    updater.command(2)
    work(updater)
    if updater.state in (VERIFIED, SWITCHING) or slots.active:
        verified += 1
    reasons[str(updater.why)] = reasons.get(str(updater.why), 0) + 1
    updater.command(4)

ran = 0
for _ in range(3000):
    what = random.getrandbits(8) % 8
    if what == 0:
        updater.begin(random.getrandbits(30) >> random.getrandbits(4) * 2, random.getrandbits(30))
    elif what == 1:
        updater.begin(200, 7)
    elif what == 2:
        updater.chunk(random.getrandbits(30), bytes(random.getrandbits(7)))
    elif what == 3:
        updater.chunk(updater.have, bytes(random.getrandbits(7)))
    elif what == 4:
        updater.command(random.getrandbits(3))
    elif what == 5:
        updater.step()
    elif what == 6:
        updater.good_cycle()
    elif random.getrandbits(4) == 0:
        slots, updater = start()
    ran += slots.active != "" or updater.restart
print(json.dumps([verified, reasons, ran]))
