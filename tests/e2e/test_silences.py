"""Silences that remedies make, and alerts that block them, at the real Alertmanager."""

from __future__ import annotations

import pytest

from sidecar.adapters.alertmanager import Alertmanager, AlertmanagerConfig
from sidecar.demo.peers import Stack
from sidecar.remedy.actions.silence import Silence
from sidecar.remedy.actions.words import Job, World
from sidecar.types import Alert, Duration, labels_of
from tests.e2e.alerting import message, notifying, post, until
from tests.unit.lab import NoHttp

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]
LABELS = {"alertname": "Full", "severity": "page", "path": 'a"\\d\n{}'}


async def test_a_silence_for_exactly_one_alert(stack: Stack) -> None:
    peer = await stack.alertmanager(notifying("http://127.0.0.1:9/"))
    alertmanager = Alertmanager(AlertmanagerConfig(url=peer.url))
    await post(
        peer.url, [message("Full", path=LABELS["path"]), message("Full", path="other"), message("Busy")]
    )
    alert = Alert(labels_of(LABELS), {})
    await until(lambda: alertmanager.firing('alertname="Full"'))
    assert await alertmanager.firing('alertname=~"Full|Busy"') == ["Busy", "Full", "Full"]
    world = World(NoHttp(), None, alertmanager)
    action = Silence(lasts=Duration(60))
    plan = await action.plan(alert, world)
    job = Job("c0ffee", alert, plan.saved)
    assert (await action.look(job, world, False)).state == "failed"
    first, second = await action.apply(job, world), await action.apply(job, world)
    assert (first.state, first) == ("done", second), "made once"
    assert len(await alertmanager.silences()) == 1

    async def quiet() -> bool:
        return (await alertmanager.state(alert.labels)).state == "suppressed"

    await until(quiet)
    assert await alertmanager.firing('alertname="Full"') == ["Full"], "the other one is not kept quiet"
    assert (await action.look(job, world, False)).state == "done"
    assert (await action.take_back(job, world)).state == "done"
    assert (await action.take_back(job, world)).state == "done"
    assert (await action.look(job, world, True)).state == "done"
    assert await alertmanager.silences() == []
    await alertmanager.close()
