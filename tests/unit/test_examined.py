"""What the doctor makes of what it saw."""

from __future__ import annotations

import pytest

from sidecar.commands.examined import MONTH, Seen, Watched, examined

TARGET = (
    ("__name__", "promantis_build_info"),
    ("instance", "p:9909"),
    ("job", "promantis"),
    ("version", "1"),
)
WELL = Seen(
    now=1000.0,
    waits="",
    watches=[Watched("cpu", 15, 990.0, None)],
    newest=995.0,
    targets=[TARGET],
    scrapes=1.0,
    overwritten=0,
    blank=("namespace", "pod"),
    alertmanagers=1,
    silent=(),
    contradictions=(),
    runs=9000.0,
    firing=1,
    received=3.0,
    remedies=1,
    webhooks=2.0,
    deep=MONTH,
    step=15.0,
)


def test_all_is_well() -> None:
    checks = list(examined(WELL))
    assert {check.state for check in checks} == {"ok"}
    names = "promantis clock watches scraped honor_labels labels alertmanager alerts webhook history"
    assert [check.name for check in checks] == names.split()


@pytest.mark.parametrize(
    ("changed", "name", "state", "words"),
    [
        ({"waits": "reads history"}, "promantis", "bad", "not ready: reads history"),
        ({"newest": 1020.0}, "clock", "bad", "20s from now"),
        ({"newest": 700.0}, "clock", "bad", "5m old"),
        ({"newest": None}, "clock", "unknown", "no recent sample"),
        ({"watches": []}, "watches", "bad", "nothing is watched"),
        (
            {"watches": [Watched("a", 15, 100.0, "it times out")]},
            "watches",
            "bad",
            "1 without data: a: it times out",
        ),
        ({"watches": [Watched("a", 15, None, None)] * 7}, "watches", "bad", "and 2 more"),
        ({"watches": [Watched("a", 900, 100.0, None)]}, "watches", "ok", "15m ago"),
        ({"targets": []}, "scraped", "bad", "does not scrape"),
        ({"targets": [TARGET, TARGET]}, "scraped", "bad", "2 targets"),
        ({"scrapes": 2.0}, "scraped", "bad", "2.0 times"),
        ({"scrapes": None}, "scraped", "ok", "only"),
        ({"overwritten": 4}, "honor_labels", "bad", "4 series of results"),
        ({"targets": [(*TARGET, ("pod", "x"))]}, "labels", "ok", "none"),
        ({"targets": [(*TARGET, ("team", "x"))]}, "labels", "bad", "team"),
        ({"contradictions": ["tee, but"]}, "alerts", "bad", "tee, but"),
        ({"received": 0.0}, "alerts", "bad", "1 fire in Prometheus, and none has come"),
        ({"received": None, "firing": 0}, "alerts", "unknown", "none fires"),
        ({"received": 0.0, "runs": 30.0}, "alerts", "unknown", "none has come in the 30s since the start"),
        ({"webhooks": 0.0, "runs": 180.0}, "webhook", "unknown", "none has come in the 3m since the start"),
        ({"webhooks": 0.0}, "webhook", "bad", "has sent no webhook"),
        ({"webhooks": 0.0, "firing": 0}, "webhook", "unknown", "none came"),
        ({"webhooks": 0.0, "remedies": 0}, "webhook", "ok", "no remedy"),
        ({"deep": 3600.0}, "history", "unknown", "is shorter than 14h"),
        ({"deep": 86400.0}, "history", "unknown", "reaches back 24h"),
        ({"silent": ["am: connection refused"]}, "alertmanager", "bad", "am: connection refused"),
        ({"alertmanagers": 0}, "alertmanager", "unknown", "none is known"),
        ({"step": 3600.0}, "history", "bad", "every 60m"),
        ({"step": None}, "history", "unknown", "none of `up`"),
    ],
)
def test_what_is_not_well_is_said_with_what_to_do(
    changed: dict[str, object], name: str, state: str, words: str
) -> None:
    checks = {check.name: check for check in examined(WELL._replace(**changed))}  # type: ignore[arg-type]
    assert checks[name].state == state
    assert words in checks[name].words
    if state == "bad":
        assert checks[name].remedy
    others = {check.state for key, check in checks.items() if key != name}
    assert others <= {"ok", "unknown"}
