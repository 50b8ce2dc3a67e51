"""curve.py FILE: shares in ppm of a JSON list of [knots, [deviation, ...]], in the firmware's integers."""

import json
import sys

from law import curve_ppm

with open(sys.argv[1]) as file:
    for knots, deviations in json.load(file):
        print(json.dumps([curve_ppm(knots, deviation) for deviation in deviations]))
