"""The loader: starts the program that the settings name, from the slot that is active.

On the unix VM: `micropython main.py FOLDER`. What ends by an error is left for a restart, on a board and here, so that
a firmware on trial that cannot even start is rolled back.
"""

import sys

from slots import Slots


def run(folder, slots):
    import settings
    from store import Store

    try:
        program = settings.load(Store(folder, "settings").load())["program"]
    except settings.SettingsError:
        program = settings.DEFAULT["program"]
    if program == "relay":
        import relay

        relay.run(folder, slots)
    else:
        import meter

        meter.run(folder, slots)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "/"
    slots = Slots(folder)
    own_path = list(sys.path)
    slot = slots.boot()
    if slot is not None:
        sys.path[:] = [slot, ".frozen"]  # whole or not at all: nothing is taken from the factory's modules
    try:
        run(folder, slots)
    except Exception as error:
        sys.print_exception(error)
        sys.modules.pop("hal", None)
        sys.path[:] = own_path
        import hal

        hal.restart()


main()
