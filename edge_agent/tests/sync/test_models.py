"""Models that came as updates: the good one is used, the bad one is given up and told, and the one before stays."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from edge_agent.sync.models import CannotTry, good_model
from edge_agent.tests.forecast import models
from edge_agent.tests.sync.shelf import Site
from protos.vpp.v1.site_pb2 import SignedManifest, UpdateStatus

GOOD = models.column()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def signed(site: Site, version: list[int], content: bytes = GOOD, **changed: Any) -> SignedManifest:
    file = {"path": "site-forecast.onnx", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    fields = {"kind": "model", "name": "site-forecast", "version": version, "files": [file], **changed}
    return site.signed(content, **fields)


async def test_a_good_model_is_switched_to_and_stays_over_a_restart(site: Site) -> None:
    assert good_model(site.folder) is None
    wanted = signed(site, [1, 0, 0])
    status = await site.take(wanted)
    assert (status.state, status.reason, status.version) == (UpdateStatus.STATE_HEALTHY, "", "1.0.0")
    found = good_model(site.folder)
    assert found is not None
    assert (found[0].read_bytes(), found[1]) == (GOOD, "1.0.0")
    site.updater = site.started()
    assert (await site.take(wanted)).state == UpdateStatus.STATE_HEALTHY
    assert len(site.tried) == 1, "known after a restart"


async def test_a_bad_model_is_rolled_back_told_and_not_tried_again(site: Site) -> None:
    await site.take(signed(site, [1, 0, 0]))
    site.verdict = "its load is not finite"
    bad = signed(site, [1, 1, 0], models.column(factor=2.0))
    for _ in range(2):
        status = await site.take(bad)
        assert (status.state, status.reason) == (UpdateStatus.STATE_ROLLED_BACK, "its load is not finite")
        found = good_model(site.folder)
        assert found is not None
        assert (found[0].read_bytes(), found[1]) == (GOOD, "1.0.0")
        site.updater = site.started()
    assert len(site.tried) == 2
    site.verdict = ""
    assert (await site.take(signed(site, [1, 2, 0]))).state == UpdateStatus.STATE_HEALTHY
    assert (await site.take(signed(site, [1, 0, 0], issued=2))).state == UpdateStatus.STATE_HEALTHY, "wanted back"
    assert good_model(site.folder)[1] == "1.0.0"  # type: ignore[index]


async def test_a_trial_that_the_gateway_did_not_live_through_is_over(site: Site) -> None:
    class PowerCut(BaseException):
        pass

    async def cut(path: Path) -> str:
        raise PowerCut

    await site.take(signed(site, [1, 0, 0]))
    site.updater._try_model = cut
    site.updater.want([signed(site, [1, 1, 0], models.column(factor=2.0))])
    with pytest.raises(PowerCut):
        await site.updater.run()
    found = good_model(site.folder)
    assert found is not None
    assert found[1] == "1.0.0", "on trial is not in use"
    site.updater = site.started()
    status = await site.take(signed(site, [1, 1, 0], models.column(factor=2.0)))
    assert status.state == UpdateStatus.STATE_ROLLED_BACK
    assert "ended while it was on trial" in status.reason


async def test_a_gateway_that_cannot_run_models_says_so_and_tries_once_it_can(site: Site) -> None:
    site.verdict = CannotTry("the model needs onnxruntime")
    wanted = signed(site, [1, 0, 0])
    status = await site.take(wanted)
    assert (status.state, status.reason) == (UpdateStatus.STATE_REFUSED, "the model needs onnxruntime")
    assert good_model(site.folder) is None
    site.updater, site.verdict = site.started(), ""
    assert (await site.take(wanted)).state == UpdateStatus.STATE_HEALTHY


async def test_what_is_no_model_of_this_agent_is_refused_untried(site: Site) -> None:
    for content, changed, says in (
        (b"garbage", {}, "is no ONNX model"),
        (models.constant(1.0, told={}), {}, "not of 'site-forecast'"),
        (GOOD, {"name": "price"}, "runs no model price"),
    ):
        site.updater = site.started()
        status = await site.take(signed(site, [1, 0, 0], content, **changed))
        assert status.state == UpdateStatus.STATE_REFUSED
        assert says in status.reason
    site.updater = site.started()
    await site.take(signed(site, [2, 0, 0], minimum_version=[2, 0, 0]))
    site.updater = site.started()
    status = await site.take(signed(site, [1, 9, 0], models.column(factor=2.0)))
    assert (status.state, status.reason) == (UpdateStatus.STATE_REFUSED, "version 1.9.0 is below the minimum 2.0.0")
    assert len(site.tried) == 1


async def test_a_model_that_was_tampered_with_on_the_way_never_arrives(site: Site) -> None:
    wanted = signed(site, [1, 0, 0])
    for sha256, content in site.shelf.items():
        site.shelf[sha256] = content[:-1] + b"!"
    status = await site.take(wanted)
    assert "came damaged" in status.reason
    assert (site.tried, good_model(site.folder)) == ([], None)
