"""`vpp-agent`: runs a site's agent, checks its configuration, shows what its devices are and how it is doing."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from edge_agent.drivers import SerialLines, open_device, profile_of
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, load
from edge_agent.model.devices import DeviceFault, DeviceRejected, DeviceTimeout
from edge_agent.runtime import folder, stop
from edge_agent.runtime.process import ControlProcess
from edge_agent.runtime.watchdog import Watchdog
from protos.settings import SettingsError

WATCH_S = 2.0
BOARDS = ("rp2040", "rp2350", "esp32-s3", "esp32-c3", "unix")
REFUSED = 2  # the configuration, or what it names, has to be mended first


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.command(parsed)
    except SettingsError as error:
        print(f"vpp-agent: {error}", file=sys.stderr)
        return REFUSED
    except DeviceFault as error:
        where = f"{parsed.config}: " if getattr(parsed, "config", None) else ""
        print(f"vpp-agent: {where}{error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vpp-agent", description=__doc__)
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = _add(commands, name, function, text)
        sub.add_argument("--config", type=Path, required=True, metavar="FILE", help="the agent's TOML file")
        return sub

    run = command("run", _run, "control the site until SIGTERM or Ctrl-C")
    supervise = command("supervise", _supervise, "run, and try updates; goes back by itself from a bad one")
    for each in (run, supervise):
        each.add_argument(
            "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="how much goes to stderr"
        )
    command("check-config", _check_config, "say whether the configuration can be used, without touching a device")
    status = command("status", _status, "say what the site does now and why")
    shape = status.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="as one JSON object, with every figure")
    shape.add_argument("--watch", action="store_true", help="go on until Ctrl-C")

    replay = command(
        "replay", _replay, "run a recorded day through the controllers, and compare with what was expected"
    )
    replay.add_argument("day", type=Path, metavar="DAY.toml", help="samples, and what was asked; see the README")
    replay.add_argument(
        "--expected", type=Path, metavar="FILE", help="the stored result (default: beside DAY.toml, .expected.txt)"
    )
    replay.add_argument("--update", action="store_true", help="store what comes of it now as the expected result")
    replay.add_argument("--show-every-s", type=float, default=60.0, metavar="S", help="a line so often (default 60)")
    replay.add_argument("--tolerance-w", type=float, default=5.0, metavar="W", help="of powers (default 5)")

    halt = command("stop", _stop, "emergency stop by hand: the device is released until the stop is lifted here")
    halt.add_argument("--local", action="store_true", required=True, help="of this gateway's site, by who stands at it")
    halt.add_argument("--reason", required=True, metavar="TEXT", help="in words, for the coordinator's people")
    halt.add_argument("--lift", action="store_true", help="end the stop")

    probe = _add(commands, "probe", _probe, "say what stands at addresses, and propose a configuration; writes nothing")
    probe.add_argument(
        "addresses", nargs="*", metavar="ADDRESS", help="HOST, HOST:PORT or /dev/ttyUSB0 (up to a minute), also a,b,c"
    )
    probe.add_argument("--config", type=Path, metavar="FILE", help="instead: what stands behind the addresses in it")
    probe.add_argument("--profile", metavar="NAME", help="of a device without SunSpec: one that ships, or a .toml file")
    probe.add_argument(
        "--unit-ids",
        metavar="LIST",
        help="Modbus units to ask (default 1-3,126; where nothing is found, makers' own too)",
    )
    probe.add_argument("--site", default="home-01", help="name for the proposed configuration (default home-01)")

    dump = _add(commands, "dump", _dump, "write a device's register map, without serial number and addresses")
    dump.add_argument("address", metavar="ADDRESS", help="HOST, HOST:PORT or /dev/ttyUSB0")
    dump.add_argument("--unit-id", type=int, default=1, metavar="N", help="Modbus unit (default 1)")
    source = dump.add_mutually_exclusive_group()
    source.add_argument("--profile", metavar="NAME", help="of a device without SunSpec: what this profile reads")
    source.add_argument(
        "--registers",
        action="append",
        metavar="TABLE:FIRST-LAST",
        help="of a device of which nothing is known, e.g. holding:0-99; may be repeated",
    )
    dump.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")

    firmware = commands.add_parser("firmware", help="pack, set up or install firmware of a microcontroller")
    which = firmware.add_subparsers(required=True, metavar="COMMAND")
    packing = _add(which, "pack", _firmware_pack, "sign a firmware and put it into one file")
    packing.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="modules; default: this version's own")
    packing.add_argument("--key", type=Path, required=True, metavar="FILE", help="Ed25519 private key, PEM")
    packing.add_argument("--name", choices=("meter", "relay"), required=True, help="the program it is for")
    packing.add_argument("--board", choices=BOARDS, required=True, help="the board it is for")
    packing.add_argument("--version", required=True, metavar="1.2.3", help="of this firmware")
    packing.add_argument("--minimum-version", default="0.0.0", metavar="1.2.3", help="nothing below it is taken then")
    packing.add_argument("--output", type=Path, required=True, metavar="FILE", help="the image")
    settings = _add(which, "settings", _firmware_settings, "check a node's settings and write them for its flash")
    settings.add_argument("settings", type=Path, metavar="FILE", help="JSON, over the defaults")
    settings.add_argument("--output", type=Path, required=True, metavar="FILE", help="to be copied to /settings.0")
    update = _add(which, "update", _firmware_update, "install an image in a device; stop the agent first")
    update.add_argument("--config", type=Path, required=True, metavar="FILE", help="the agent's TOML file")
    update.add_argument("device", metavar="DEVICE", help="its name in the configuration")
    update.add_argument("image", type=Path, metavar="FILE", help="the image")

    install = _add(commands, "install", _install, "set up user, folders and systemd unit on this gateway")
    install.add_argument("--dry-run", action="store_true", help="only print what would be done")
    install.add_argument(
        "--units",
        type=Path,
        default=Path("/etc/systemd/system"),
        metavar="FOLDER",
        help="where systemd looks for units",
    )
    return parser


def _add(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(command=function)
    return sub


class _Version(argparse.Action):
    """Looks the version up only when asked: that costs more memory than the rest of the command."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"vpp-agent {version('murmuration-vpp')}")
        parser.exit()


def _run(parsed: argparse.Namespace) -> int:
    config = load(parsed.config)
    logging.basicConfig(
        level=parsed.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # pymodbus repeats as errors what our drivers already turn into DeviceTimeout and DeviceRejected.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until it can be answered
    with folder.held(config.data_dir, parsed.config):
        return asyncio.run(_control(config, parsed.config.absolute()))


def _supervise(parsed: argparse.Namespace) -> int:
    """Becomes the launcher, which needs next to nothing of what is loaded here."""
    config, file = load(parsed.config), str(parsed.config.absolute())
    agent = ("-m", "edge_agent.cli", "run", "--config", file, "--log-level", parsed.log_level)
    launcher = ("-P", "-m", "edge_agent.runtime.launcher", str(config.data_dir), str(config.update.trial_s), *agent)
    os.execv(sys.executable, [sys.executable, *launcher])


async def _control(config: AgentConfig, config_file: Path) -> int:
    clock, stop = SystemClock(), asyncio.Event()
    process = ControlProcess(
        config,
        open_device=partial(open_device, lines=SerialLines()),
        sync_command=[sys.executable, "-m", "edge_agent.sync", "--config", str(config_file)],
        clock=clock,
        watchdog=Watchdog.of_this_process(clock, config.control.hardware_watchdog),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return 0 if await process.run(stop) else REFUSED


def _check_config(parsed: argparse.Namespace) -> int:
    config = load(parsed.config)
    for device in config.devices:
        profile_of(device)
    print(
        f"{parsed.config}: site {config.site}, {len(config.devices)} device(s), default {config.control.default}: good"
    )
    return 0


def _probe(parsed: argparse.Namespace) -> int:
    """Words and a configuration on stdout; 1 where no device was found."""
    from edge_agent.commands import addresses, probe

    if (parsed.config is None) == (not parsed.addresses):
        raise SettingsError("probe: give addresses (HOST, HOST:PORT, /dev/ttyUSB0), or --config FILE")
    if parsed.config is not None:
        if parsed.profile is not None:
            raise SettingsError("probe: --profile goes with addresses; FILE names the profiles of its devices")
        config = load(parsed.config)
        found = asyncio.run(probe.probe_configured(config.devices))
        print(probe.in_words(found))
    else:
        units = addresses.parse_units(parsed.unit_ids) if parsed.unit_ids is not None else None
        devices = addresses.parse_addresses(parsed.addresses, parsed.profile)
        found = asyncio.run(probe.probe(devices, units))
        print(probe.as_configuration(found, parsed.site), end="")
    missing = probe.silent(found)
    for why in missing:
        print(f"vpp-agent: {why}", file=sys.stderr)
    failed = bool(missing) if parsed.config is not None else len(missing) == len(found)
    return 1 if failed else 0


def _replay(parsed: argparse.Namespace) -> int:
    """0 where the day comes out as expected; else 1, and the lines that part."""
    from edge_agent.commands import recorded_day, replay

    if parsed.show_every_s <= 0 or parsed.tolerance_w < 0:
        raise SettingsError("replay: give --show-every-s above 0 and --tolerance-w of at least 0")
    config = load(parsed.config)
    file = parsed.expected or parsed.day.with_suffix(".expected.txt")
    try:
        expected = None if parsed.update else file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read ({error}); store a first result with --update") from error
    day = recorded_day.load_day(parsed.day, config.site)
    logging.disable()  # what the agent logs is in the result, at the day's own time
    try:
        now = replay.replay(config, day, show_every_s=parsed.show_every_s)
    finally:
        logging.disable(logging.NOTSET)
    if expected is None:
        try:
            file.write_text("".join(f"{line}\n" for line in now), encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{file}: cannot be written ({error.strerror}); give another --expected") from error
        print(f"{file}: {len(now)} lines stored")
        return 0
    parted = replay.differences(expected, now, replay.Tolerance(power_w=parsed.tolerance_w))
    for line in parted:
        print(line)
    print(f"{parsed.day}: {f'{len(parted)} lines part from' if parted else 'as'} {file}")
    return 1 if parted else 0


def _dump(parsed: argparse.Namespace) -> int:
    from edge_agent.commands import addresses, dump

    [device] = addresses.parse_addresses([parsed.address], parsed.profile)
    device = structs.replace(device, unit_id=parsed.unit_id)
    ranges = [dump.parse_range(text) for text in parsed.registers or ()]
    try:
        if (profile := profile_of(device)) is not None:
            text = asyncio.run(dump.dump_profile(device, profile))
        else:
            text = asyncio.run(dump.dump_ranges(device, ranges) if ranges else dump.dump(device))
    except (DeviceTimeout, DeviceRejected, DeviceFault, dump.NoSunSpecMap) as error:
        print(f"vpp-agent: {parsed.address} unit {parsed.unit_id}: {error}", file=sys.stderr)
        return 1
    if parsed.output is None:
        print(text, end="")
        return 0
    try:
        parsed.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{parsed.output}: cannot be written ({error.strerror}); give another file") from error
    return 0


def _status(parsed: argparse.Namespace) -> int:
    from edge_agent.commands import status  # SQLite is sync's, not control's

    config, clock = load(parsed.config), SystemClock()
    if parsed.json:
        print(json.dumps(status.read(config), indent=1))
        return 0
    while True:
        status.ask_control(config)
        words = status.in_words(config, clock)
        if not parsed.watch:
            print(words)
            return 0
        print(f"\x1b[H\x1b[J{words}\n\nevery {WATCH_S:g} s, Ctrl-C ends", flush=True)
        time.sleep(WATCH_S)


def _stop(parsed: argparse.Namespace) -> int:
    from edge_agent.commands import status

    config = load(parsed.config)
    try:
        stop.order_locally(config.data_dir, stop=not parsed.lift, reason=parsed.reason, now_ms=SystemClock().utc_ms())
    except OSError as error:
        raise SettingsError(
            f"{config.data_dir}: cannot be written ({error.strerror}); run this as the agent's user"
        ) from error
    told = status.ask_control(config)
    what = "lifted" if parsed.lift else "stopped"
    print(
        f"site {config.site}: {what}" if told else f"site {config.site}: {what} from the agent's next start; none runs"
    )
    return 0


def _firmware_pack(parsed: argparse.Namespace) -> int:
    from edge_agent.commands import firmware

    try:
        image, public_key = firmware.pack(
            parsed.key,
            parsed.folder,
            name=parsed.name,
            board=parsed.board,
            version=parsed.version,
            minimum_version=parsed.minimum_version,
            issued_ms=SystemClock().utc_ms(),
        )
        parsed.output.write_bytes(image)
    except (firmware.FirmwareCommandError, OSError) as error:
        print(f"vpp-agent: {error}", file=sys.stderr)
        return REFUSED
    print(f"{parsed.output}: {len(image)} bytes; taken by nodes with update_key {public_key}")
    return 0


def _firmware_settings(parsed: argparse.Namespace) -> int:
    from edge_agent.commands import firmware

    try:
        parsed.output.write_bytes(firmware.settings_record(parsed.settings.read_text()))
    except (firmware.FirmwareCommandError, OSError, UnicodeDecodeError) as error:
        print(f"vpp-agent: {parsed.settings}: {error}", file=sys.stderr)
        return REFUSED
    print(f"{parsed.output}: good; remove /settings.1 from the node's flash when you copy it there")
    return 0


def _firmware_update(parsed: argparse.Namespace) -> int:
    from edge_agent.commands import firmware

    config = load(parsed.config)
    try:
        image = parsed.image.read_bytes()
        asyncio.run(firmware.install(config, parsed.device, image, SystemClock(), print))
    except (firmware.FirmwareCommandError, OSError) as error:
        print(f"vpp-agent: {error}", file=sys.stderr)
        return REFUSED
    return 0


def _install(parsed: argparse.Namespace) -> int:
    from edge_agent.commands import install

    wanted = install.steps(install.program_path(), parsed.units)
    for step in wanted:
        print(step)
    if not parsed.dry_run:
        install.carry_out(wanted)
    print(f"# next: {install.CONFIG_FOLDER}/SITE.toml, then systemctl enable --now vpp-agent@SITE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
