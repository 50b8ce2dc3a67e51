"""`vpp-hil run`: the whole chain on this machine, a report, and the exit code that says how it went."""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from hil.rigs.recording import load_recording
from hil.run.chain import RECORDING, Chain, Timing, chain
from hil.run.collect import collect
from hil.run.figures import picture
from hil.run.processes import ChainError, ChainRefused
from hil.run.recorded_days import write_days
from hil.run.report import summary, write_report
from hil.run.results import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--homes", type=int, default=12, help="how many homes (default 12)")
    parser.add_argument("--scenario", default="underfrequency", help="name of a shipped scenario, or a TOML file")
    parser.add_argument("--data", type=Path, help="folder for everything the run writes (default: run/<time>)")
    parser.add_argument("--exit-after-report", action="store_true", help="do not keep serving until Ctrl-C")
    parser.add_argument("--picture", type=Path, help="also write the README's picture, a PNG")


def run(arguments: argparse.Namespace) -> int:
    """0: every home delivered and no frame was lost; 1: not so, or part of the chain failed.

    2: what was asked for cannot be run; 130: interrupted.
    """
    started = datetime.now(UTC)
    folder = (arguments.data or Path("run") / f"{started:%Y-%m-%dT%H-%M-%S}").absolute()
    begin = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - begin:6.1f} s] {text}\n")
        sys.stdout.flush()

    try:
        if arguments.picture and not arguments.picture.parent.is_dir():
            raise ChainRefused(f"--picture {arguments.picture}: its folder is not there; make it first")
        with chain(folder, homes=arguments.homes, scenario=arguments.scenario, say=say) as running:
            results = play(running, Timing(), started=started, say=say)
            report = folder / "report.html"
            write_report(results, report)
            write_days(load_recording(folder / "rig" / RECORDING), running.ledger, folder / "days")
            if arguments.picture:
                picture(results, arguments.picture)
            sys.stdout.write(f"\n{summary(results)}\n\n{_verdict(results)}\nreport:  {report}\n")
            say(f"days: {folder / 'days'}, for `vpp-agent replay`")
            if arguments.exit_after_report:
                say("stopping every process")
            else:
                _serve_on(running)
    except ChainError as error:
        sys.stderr.write(f"vpp-hil: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"vpp-hil: {error.filename or folder}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stdout.write("interrupted: every process was stopped\n")
        return 130
    return 1 if results.failures else 0


def play(running: Chain, timing: Timing, *, started: datetime, say: Callable[[str], None]) -> Results:
    """Starts everything, plays the event inside a delivery, and collects what happened."""
    running.start_rig()
    running.start_coordinator()
    say(f"console: {running.served()['console']} (plain HTTP, for this machine only: console.insecure_loopback_only)")
    if link := running.served().get("console_log_in"):
        say(f"console, first log-in (works once): {link}")
    running.register_homes()
    running.start_agents()
    running.wait_online()
    start, end = running.open_session(timing)
    awards = running.wait_armed(within_s=timing.delivery_starts_after_s + 30)
    for award in awards:
        say(
            f"market: {award.product} {award.power_w / 1000:.2f} kW awarded at {award.clearing_price_per_mw_h} "
            f"{award.currency}/MWh, armed as {award.service_id}"
        )
    played_at = start + timedelta(seconds=timing.quiet_before_s)
    running.play(played_at)
    say(f"event: the recording plays from {played_at:%H:%M:%S} to {_event_end(running, played_at):%H:%M:%S} UTC")
    _follow(running, played_at, end, say)
    say("settlement: waiting for the telemetry of the delivery to be complete")
    running.wait_settled(within_s=90)
    results = collect(running, started=started, played_at=played_at)
    say("settlement: done")
    return results


def _event_end(running: Chain, played_at: datetime) -> datetime:
    return played_at + timedelta(seconds=float(running.rig["event_duration_s"]))


def _follow(running: Chain, played_at: datetime, end: datetime, say: Callable[[str], None]) -> None:
    """Shows the fleet's last measured seconds every ten seconds until the delivery ends."""
    slots = [site.slot for site in running.ledger.sites()]
    next_line = time.monotonic()
    while (now := datetime.now(UTC)) < end:
        running.processes.check()
        if time.monotonic() >= next_line:
            next_line += 10
            now_ms = round(now.timestamp() * 1000)
            seen = running.history.read(slots, now_ms - 8000, now_ms, ["frequency_hz", "inverter_power_w"])
            hertz, power = seen.columns["frequency_hz"].mean(axis=0), seen.columns["inverter_power_w"].sum(axis=0)
            complete = np.flatnonzero(np.isfinite(hertz) & np.isfinite(power))
            if complete.size:
                hz, kw = hertz[complete[-1]], power[complete[-1]] / 1000
                say(f"event: {(now - played_at).total_seconds():+6.0f} s, {hz:.3f} Hz, fleet {kw:+.2f} kW")
        time.sleep(0.2)


def _verdict(results: Results) -> str:
    if not results.failures:
        return "verdict: every home delivered within its service's limits, and no frame was lost or doubled"
    return "\n".join(f"verdict: {failure}" for failure in results.failures)


def _serve_on(running: Chain) -> None:
    sys.stdout.write(f"console: {running.served()['console']}\nserving until Ctrl-C\n")
    sys.stdout.flush()
    try:
        while True:
            running.processes.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        sys.stdout.write("\nstopping every process\n")
