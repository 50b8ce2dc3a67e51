"""No secret of anybody's is in logs, process lists, what is printed, or what other accounts may read."""

import asyncio
import sys
import tomllib
from pathlib import Path

import httpx

from cloud.api.testing import PASSWORD
from cloud.tests.test_cli import DEADLINE_S, command, serving


async def test_secrets_are_not_in_logs_process_lists_or_reports(tmp_path: Path) -> None:
    data = tmp_path / "cloud"
    said: list[str] = []
    async with serving(data) as (process, run):
        claim_file = tmp_path / "home-01.claim.toml"
        for arguments in (
            ("site", "add", "home-01", "--claim-file", str(claim_file)),
            ("site", "list"),
            ("people", "list"),
            ("token", "list"),
            ("audit", "export"),
            ("audit", "verify"),
        ):
            outcome = await command(*arguments, "--data", data)
            said += [outcome.out, outcome.err]
        shown = (await command("token", "add", "grafana", "--scope", "view", "--data", data)).out.strip()
        async with httpx.AsyncClient(base_url=run["console"], verify=False) as browser:
            await browser.post(
                run["console_log_in"], data={"username": "ada", "password": PASSWORD, "repeat": PASSWORD}
            )
            cookie = next(iter(browser.cookies.values()))
            await browser.post("/log-in", data={"username": "ada", "password": "a wrong password"})
            said += [(await browser.get(path)).text for path in ("/", "/account", "/api/v1/sites", "/api/v1/events")]
        said += [path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace") for path in _command_lines()]
        said += [path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace") for path in _environments()]
        process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
        said += [out.decode(), err.decode()]
    secrets = _secrets(data) | {PASSWORD, "a wrong password", shown, cookie, _token_of(claim_file)}
    assert len(secrets) > 8
    everything = "\n".join(said)
    assert "home-01" in everything
    for secret in secrets:
        assert secret not in everything, f"a secret of {len(secret)} characters was told"
    for path in data.rglob("*"):
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o077 == 0, f"{path} may be read by others"
    assert claim_file.stat().st_mode & 0o077 == 0


def _command_lines() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if _is_ours(path)]


def _environments() -> list[Path]:
    return [path.with_name("environ") for path in _command_lines()]


def _is_ours(path: Path) -> bool:
    """A process of the coordinator: itself, or the broker that it started."""
    try:
        words = path.read_bytes().split(b"\0")
    except OSError:
        return False
    return (words[0] == sys.executable.encode() and b"cloud.cli" in words) or b"nats-server" in words[0]


def _token_of(claim_file: Path) -> str:
    return str(tomllib.loads(claim_file.read_text())["token"])


def _secrets(data: Path) -> set[str]:
    """What the key files hold, where it is text: seeds, private keys, passphrases."""
    found = set()
    for path in (data / "keys").rglob("*"):
        if not path.is_file() or path.suffix in {".pem", ".pub"}:
            continue
        raw = path.read_bytes()
        found.add(raw.hex())
        text = raw.decode("utf-8", "ignore").strip()
        found |= {line for line in text.splitlines() if len(line) >= 32 and not line.startswith("-----")}
    return found
