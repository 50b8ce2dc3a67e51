"""actions.py FILE...: how often a relay at 49.75 Hz, with the usual delay of 200 ms, switches; files at 4 kS/s."""

import json
import sys

import settings
from estimator import Estimator
from law import RelayLaw

EAGER = {
    "under_uhz": 49_750_000, "return_uhz": 49_900_000, "spread_ms": 0, "return_ms": 0,
    "return_spread_ms": 0, "least_on_ms": 0, "least_off_ms": 0, "most_switched_an_hour": 3600,
}  # fmt: skip

for path in sys.argv[1:]:
    law = RelayLaw(settings.load(json.dumps({"relay": EAGER}))["relay"], 50, 1)
    estimator = Estimator(4000, 50)
    samples = estimator.samples
    hop = bytearray(2 * estimator.hop)
    with open(path, "rb") as file:
        while file.readinto(hop) == len(hop):
            for i in range(estimator.hop):
                samples[estimator.at + i] = hop[2 * i] | hop[2 * i + 1] << 8
            estimator.advance()
            law.step(estimator.frequency_uhz, estimator.good, None, 20)
    print(law.switched)
