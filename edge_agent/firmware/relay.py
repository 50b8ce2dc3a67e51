"""The relay: a meter that switches a load by what it measures, with or without a gateway."""

from law import RelayLaw
from node import Node


def make_law(settings, seed):
    return RelayLaw(settings["relay"], settings["nominal_hz"], seed)


def run(folder, slots):
    Node(folder, slots, make_law).run()
