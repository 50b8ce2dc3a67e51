"""What a gateway needs to run the agent as a service: user, folders, systemd units."""

import grp
import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from protos.settings import SettingsError

USER = "vpp-agent"
CONFIG_FOLDER = Path("/etc/vpp-agent")
STATE_FOLDER = Path("/var/lib/vpp-agent")
UNIT = "vpp-agent@.service"
_COMMAND_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a command, or a file with its content."""

    words: str
    command: tuple[str, ...] = ()
    file: Path | None = None
    content: str = ""

    def __str__(self) -> str:
        shown = f"$ {' '.join(self.command)}" if self.command else f"{self.file}:\n{self.content.rstrip()}"
        return f"# {self.words}\n{shown}\n"


def unit_text(program: Path) -> str:
    """The systemd unit: one instance a site, named as its configuration file."""
    return f"""\
[Unit]
Description=Virtual power plant agent of site %i
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=notify
TimeoutStartSec=infinity
ExecStart={program} supervise --config {CONFIG_FOLDER}/%i.toml
# 2: the configuration has to be mended by a person; starting again would not help.
RestartPreventExitStatus=2
Restart=always
RestartSec=2
WatchdogSec=10
TimeoutStopSec=20
User={USER}
Group={USER}
SupplementaryGroups=dialout
StateDirectory=vpp-agent
StateDirectoryMode=0700
UMask=0077
# The control loop comes before everything else that is not the kernel.
CPUSchedulingPolicy=rr
CPUSchedulingPriority=20
CPUSchedulingResetOnFork=true
LimitRTPRIO=20
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectControlGroups=true
PrivateTmp=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
LockPersonality=true
MemoryMax=256M

[Install]
WantedBy=multi-user.target
"""


def steps(program: Path, units: Path) -> list[Step]:
    """What `install` does, in order; what is there already is left out."""
    wanted = []
    if not _exists(pwd.getpwnam, USER):
        add = ("useradd", "--system", "--home-dir", str(STATE_FOLDER), "--shell", "/usr/sbin/nologin", USER)
        wanted.append(Step("a user of its own, without a shell", command=add))
    if not _exists(grp.getgrnam, "dialout"):
        wanted.append(Step("the group that may open serial ports", command=("groupadd", "--system", "dialout")))
    for folder, mode, words in ((CONFIG_FOLDER, "0750", "configurations"), (STATE_FOLDER, "0700", "journal and keys")):
        make = ("install", "-d", "-m", mode, "-o", USER, "-g", USER, str(folder))
        wanted.append(Step(f"the folder for {words}", command=make))
    wanted.append(Step("the service, one instance a site", file=units / UNIT, content=unit_text(program)))
    wanted.append(Step("have systemd read it", command=("systemctl", "daemon-reload")))
    return wanted


def program_path() -> Path:
    """Where this very `vpp-agent` stands. Raises SettingsError."""
    found = shutil.which("vpp-agent", path=str(Path(sys.executable).parent)) or shutil.which("vpp-agent")
    if found is None:
        raise SettingsError("install: no vpp-agent beside this Python; install the distribution's extra `edge` first")
    return Path(found).absolute()


def carry_out(wanted: list[Step]) -> None:
    """Does the steps. Raises SettingsError for one that fails."""
    if os.geteuid() != 0:
        raise SettingsError("install: needs root; run it with sudo, or look at what it would do with --dry-run")
    for step in wanted:
        try:
            if step.command:
                subprocess.run(step.command, check=True, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S)
            elif step.file is not None:
                step.file.write_text(step.content, encoding="utf-8")
        except subprocess.CalledProcessError as error:
            raise SettingsError(f"install: {' '.join(step.command)}: {error.stderr.strip()}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SettingsError(f"install: {step.words}: {error}") from error


def _exists(look_up: object, name: str) -> bool:
    assert callable(look_up)  # noqa: S101 (pwd's and grp's look-ups share no type)
    try:
        look_up(name)
    except KeyError:
        return False
    return True
