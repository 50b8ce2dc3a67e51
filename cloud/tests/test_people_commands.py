"""`vpp-cloud people` and `vpp-cloud token` on a coordinator that runs."""

import ssl
from pathlib import Path

import httpx
import pytest

from cloud.api.testing import PASSWORD
from cloud.tests.test_cli import assert_refused, command, serving


async def test_a_person_and_a_program_get_in_and_are_shut_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with serving(data) as (_, run):
        trust = ssl.create_default_context(cafile=str(data / "keys" / "ca.pem"))
        at = ("--data", str(data))
        link = await command("people", "add", "eve", "--role", "viewer", *at)
        assert link.code == 0, link.err
        address = link.out.split()[-1]
        assert address.startswith(run["console"] + "/welcome/")
        async with httpx.AsyncClient(base_url=run["console"], verify=trust) as browser:
            form = {"password": PASSWORD, "repeat": PASSWORD}
            assert (await browser.post(address, data=form)).status_code == 303
            assert (await browser.get("/api/v1/health")).status_code == 200
            assert (await command("people", "disable", "eve", *at)).code == 0
            assert (await browser.get("/api/v1/health")).status_code == 401
        listed = await command("people", "list", *at)
        assert [line.split()[0] for line in listed.out.splitlines()] == ["user", "admin", "eve"]
        token = (await command("token", "add", "grafana", "--scope", "view", *at)).out.strip()
        bearer = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=run["console"], verify=trust, headers=bearer) as program:
            assert (await program.get("/api/v1/health")).status_code == 200
            assert (await command("token", "revoke", "grafana", *at)).code == 0
            assert (await program.get("/api/v1/health")).status_code == 401
        for refused, says in (
            (("people", "link", "nobody"), "There is no user nobody"),
            (("people", "link", "eve"), "is disabled"),
            (("token", "revoke", "grafana"), "unknown or revoked"),
            (("token", "add", "x y", "--scope", "view"), "Token name"),
        ):
            assert_refused(await command(*refused, *at), says)
    assert_refused(await command("people", "add", "bob", "--role", "viewer", *at), "its console does not run")


@pytest.mark.parametrize("group", ["people", "token"])
async def test_without_a_data_folder(tmp_path: Path, group: str) -> None:
    assert_refused(await command(group, "list", "--data", tmp_path / "none"), "is not a coordinator's data folder")
