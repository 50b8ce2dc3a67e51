"""Which firmware runs: the one that the board left the workshop with, or one of two slots that updates go into.

A new firmware is on trial: it is tried once, and what has not been committed when the board starts again is left for
what ran before. Part of the loader with `main.py` and `store.py`: what runs from a slot finds these three loaded
already, so an update can break neither them nor the way back.
"""

import json

from store import Store

FACTORY = ""
SLOTS = ("a", "b")
GOOD, FRESH, TRIED = "good", "fresh", "tried"


class Slots:
    """The record of what runs, in `folder`."""

    def __init__(self, folder):
        self._folder = folder
        self._store = Store(folder, "slots")
        raw = self._store.load()
        record = json.loads(raw) if raw else {}
        self.active = record.get("active", FACTORY)
        self.previous = record.get("previous", FACTORY)
        self.state = record.get("state", GOOD)
        self.version = record.get("version", None)  # of what runs; None: that of the factory
        self.previous_version = record.get("previous_version", None)
        self.floor = record.get("floor", [0, 0, 0])  # nothing below may be installed
        self.next_floor = record.get("next_floor", self.floor)  # once what is on trial is committed
        self.rolled_back = record.get("rolled_back", False)  # the last one on trial was

    @property
    def on_trial(self):
        return self.state != GOOD

    @property
    def spare(self):
        """The slot that an update goes into."""
        return SLOTS[1] if self.active == SLOTS[0] else SLOTS[0]

    def path(self, slot):
        return self._folder + "/" + slot

    def boot(self):
        """The folder of what shall run now; None: the factory's. A firmware on trial gets one start."""
        if self.state == TRIED:
            self.roll_back()
        elif self.state == FRESH:
            self.state = TRIED
            self._save()
        return self.path(self.active) if self.active else None

    def switch(self, version, floor):
        """The spare slot runs from the next start on, on trial. `floor` is in force once it is committed."""
        self.previous, self.previous_version = self.active, self.version
        self.active, self.version = self.spare, version
        self.next_floor = max(self.floor, floor)
        self.state = FRESH
        self.rolled_back = False
        self._save()

    def commit(self):
        """What is on trial stays."""
        self.state = GOOD
        self.floor = self.next_floor
        self._save()

    def roll_back(self):
        """What ran before runs from the next start on."""
        self.active, self.version = self.previous, self.previous_version
        self.next_floor = self.floor
        self.state = GOOD
        self.rolled_back = True
        self._save()

    def _save(self):
        names = (
            "active", "previous", "state", "version", "previous_version", "floor", "next_floor", "rolled_back",
        )  # fmt: skip
        self._store.save(json.dumps({name: getattr(self, name) for name in names}).encode())
