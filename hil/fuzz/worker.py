"""One target under atheris in a process of its own: `python -m hil.fuzz.worker NAME LIBFUZZER-OPTION...`.

atheris owns the process: it instruments what is imported below, and ends with the exit code.
"""

import sys

import atheris


def main() -> None:
    with atheris.instrument_imports(include=["edge_agent", "cloud", "protos", "modbus"]):
        from hil.fuzz.targets import TARGETS

    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], f"-max_len={target.longest}", *sys.argv[2:]], target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
