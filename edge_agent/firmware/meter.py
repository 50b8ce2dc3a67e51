"""The meter: frequency, rate of change and voltage of the mains, as a SunSpec device."""

from node import Node


def run(folder, slots):
    Node(folder, slots).run()
