"""play.py FILE: the relay through a JSON of {"settings", "seed", "steps"}; a step is [count, uHz, good, temperature,
manual or null]. Prints [cycle, on, why] at each change, and at the end."""

import json
import sys

import settings
from law import RelayLaw

with open(sys.argv[1]) as file:
    given = json.load(file)
law = RelayLaw(settings.load(json.dumps({"relay": given["settings"]}))["relay"], 50, given["seed"])
cycle = 0
last = None
for count, uhz, good, temperature_dc, manual in given["steps"]:
    if manual is not None:
        law.manual(manual[0], manual[1])
    for _ in range(count):
        law.step(uhz, good, temperature_dc, 20)
        cycle += 1
        if (law.on, law.why) != last:
            last = (law.on, law.why)
            print(json.dumps([cycle, law.on, law.why]))
print(json.dumps([cycle, law.on, law.why]))
