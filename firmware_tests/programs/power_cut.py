"""power_cut.py FOLDER: a record saved over another, cut off after each number of bytes and with each byte spoilt."""

import json
import os
import sys

from store import Store

folder = sys.argv[1]
store = Store(folder, "x")
print(json.dumps(store.load()))
store.save(b"first")
store.save(b"second, and longer")
store.save(b"third")
names = ("x.0", "x.1")
pictures = []
for name in names:
    with open(folder + "/" + name, "rb") as file:
        pictures.append(file.read())
newest = 0 if b"third" in pictures[0] else 1
found = {}


def see(raw):
    with open(folder + "/" + names[newest], "wb") as file:
        file.write(raw)
    content = Store(folder, "x").load()
    text = None if content is None else bytes(content).decode()
    found[text] = found.get(text, 0) + 1


whole = pictures[newest]
for n in range(len(whole)):
    see(whole[:n])
    see(whole[:n] + bytes((whole[n] ^ 0x40,)) + whole[n + 1 :])
    # An old copy of which the first bytes are already new
    see(whole[:n] + pictures[1 - newest][n:])
see(whole)
Store(folder, "x").save(b"fourth")
found[bytes(Store(folder, "x").load()).decode()] = 1
print(json.dumps(found))
os.remove(folder + "/x.0")
os.remove(folder + "/x.1")
