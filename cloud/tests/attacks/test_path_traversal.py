"""An address that reaches files beside those that are served."""

import re

import httpx
import pytest


@pytest.mark.parametrize(
    "path",
    [
        "/static/../templates/live.html",
        "/static/%2e%2e/templates/live.html",
        "/static/..%2fapp.py",
        "/static/vendor/..%2f..%2fpackage.json",
        "/static/vendor/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/....//....//etc/passwd",
        "/static/%00",
    ],
)
async def test_paths_stay_inside_the_static_folder(operator: httpx.AsyncClient, path: str) -> None:
    answer = await operator.get(path)
    assert answer.status_code in {400, 404}
    assert not re.search(r"root:|{% |\"dependencies\"", answer.text)
