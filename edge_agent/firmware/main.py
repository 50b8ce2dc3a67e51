"""Starts the program that the settings name. On the unix VM: `micropython main.py FOLDER`."""

import sys

import settings
from store import Store


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "/"
    try:
        program = settings.load(Store(folder, "settings").load())["program"]
    except settings.SettingsError:
        program = settings.DEFAULT["program"]
    if program == "relay":
        import relay

        relay.run(folder)
    else:
        import meter

        meter.run(folder)


main()
