"""A link to the console that ends somewhere else."""

import httpx
import pytest

from cloud.api.testing import PASSWORD


@pytest.mark.parametrize("target", ["//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)"])
async def test_log_in_leads_nowhere_else(operator: httpx.AsyncClient, target: str) -> None:
    form = {"username": "ada", "password": PASSWORD, "next": target}
    answer = await operator.post("/log-in", params={"next": target}, data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
