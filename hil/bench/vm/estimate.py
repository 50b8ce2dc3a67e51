"""estimate.py RATE NOMINAL LOW DEAD FILE: every estimate of a file of 16-bit samples, a list a line."""

import json
import sys

from estimator import Estimator

estimator = Estimator(int(sys.argv[1]), int(sys.argv[2]))
estimator.low_counts = int(sys.argv[3])
estimator.dead_counts = int(sys.argv[4])
samples = estimator.samples
hop = memoryview(bytearray(2 * estimator.hop))
with open(sys.argv[5], "rb") as file:
    while file.readinto(hop) == len(hop):
        for i in range(estimator.hop):
            samples[estimator.at + i] = hop[2 * i] | hop[2 * i + 1] << 8
        if estimator.advance():
            print(
                json.dumps(
                    [
                        estimator.frequency_uhz,
                        estimator.second_uhz,
                        estimator.rocof_uhz_s if estimator.rocof_known else None,
                        estimator.flags,
                        estimator.rms,
                        estimator.residual,
                    ]
                )
            )
