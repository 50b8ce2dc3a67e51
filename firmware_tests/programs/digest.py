"""digest.py FILE: SHA-512 in hex of each message in hex of a JSON list."""

import binascii
import json
import sys

from sha512 import digesting

with open(sys.argv[1]) as file:
    for text in json.load(file):
        work = digesting(binascii.unhexlify(text))
        try:
            while True:
                next(work)
        except StopIteration as stop:
            print(json.dumps(binascii.hexlify(stop.value).decode()))
