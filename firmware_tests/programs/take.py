"""take.py FOLDER KEY STEPS: a meter's updater on board "unix" through a JSON list of steps, each a list:

["begin", IMAGE], ["begin", IMAGE, CRC], ["chunks", IMAGE, FROM, TO], ["command", N] (and what work it makes),
["good", N] cycles, ["start"] (the node starts again). After each it prints state, why, have, and what runs.
"""

import binascii
import json
import sys

from slots import Slots
from update import Updater

CHUNK = 128
folder, key, steps = sys.argv[1:]


def start():
    slots = Slots(folder)
    slots.boot()
    return slots, Updater(
        folder, slots, binascii.unhexlify(key) if key else None, "unix", "meter", slots.version or [0, 1, 0]
    )


def read(name):
    with open(name, "rb") as file:
        return file.read()


slots, updater = start()
with open(steps) as file:
    for step in json.load(file):
        what = step[0]
        if what == "begin":
            image = read(step[1])
            updater.begin(len(image), step[2] if len(step) > 2 else binascii.crc32(image))
        elif what == "chunks":
            image = read(step[1])
            for at in range(step[2], min(step[3], len(image)), CHUNK):
                updater.chunk(at, image[at : at + CHUNK])
        elif what == "command":
            updater.command(step[1])
            while updater.step():
                pass
        elif what == "good":
            for _ in range(step[1]):
                updater.good_cycle()
        elif what == "start":
            slots, updater = start()
        print(json.dumps([updater.state, updater.why, updater.have, slots.active, slots.state, updater.version]))
