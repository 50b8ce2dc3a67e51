"""verify.py: how long an update's signature takes to verify, and the 95th percentile of its steps. MicroPython only.

The signature is of RFC 8032, section 7.1, test 1; the message beside it, as long as a manifest, is not the one signed,
which costs the same: only the last comparison tells.
"""

import binascii
import json
import time

from ed25519 import verifying

KEY = binascii.unhexlify("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = binascii.unhexlify(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
MANIFEST_BYTES = 2500

work = verifying(KEY, SIGNATURE, bytes(MANIFEST_BYTES))
steps = []
start_us = time.ticks_us()
try:
    while True:
        before_us = time.ticks_us()
        next(work)
        steps.append(time.ticks_diff(time.ticks_us(), before_us))
except StopIteration:
    pass
took_us = time.ticks_diff(time.ticks_us(), start_us)
steps.sort()
print(json.dumps({"ms": took_us / 1000, "step_us": steps[len(steps) * 95 // 100]}))
