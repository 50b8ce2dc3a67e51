"""verify.py FILE: for each [key, signature, message] in hex of a JSON list, whether the signature is good."""

import binascii
import json
import sys

from ed25519 import verifying


def ended(work):
    """What a generator returns."""
    try:
        while True:
            next(work)
    except StopIteration as stop:
        return stop.value


with open(sys.argv[1]) as file:
    for case in json.load(file):
        print(json.dumps(ended(verifying(*[binascii.unhexlify(text) for text in case]))))
