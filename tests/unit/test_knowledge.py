"""The knowledge base, and caps that hold for the worst incident."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sidecar.alerts.enrich import Enricher
from sidecar.alerts.explain import Changed
from sidecar.alerts.knowledge import When
from sidecar.alerts.narrate import ANNOTATIONS
from sidecar.alerts.relay import AlertsConfig
from sidecar.config import Config, knowledge
from sidecar.demo.peers import REPOSITORY
from sidecar.types import ConfigError
from tests.unit.calling import candidates
from tests.unit.test_explain import FULL, NOW, POOL, World, alert, explainer


def test_the_caps_hold_for_the_worst_incident() -> None:
    long = "é" * 400
    c = candidates(FULL, more=POOL)
    c = msgspec.structs.replace(
        c,
        entities=[one if "->" in one else one + long for one in c.entities],
        calls=[(a + long, b + long) for a, b in c.calls],
    )
    made = explainer(World(c))
    made.changed = [Changed("bank" + long, NOW, f"{long} {i} was deployed") for i in range(20)]
    enricher = Enricher(World(c), lambda alert: long, AlertsConfig(annotations=ANNOTATIONS), "http://p", made)
    words = enricher(alert("front" + long), NOW)
    assert words["promantis_causes"]
    assert all(len(text.encode()) <= 300 for text in words.values())
    assert set(words) <= {f"promantis_{name}" for name in ANNOTATIONS}


def test_the_users_own_patterns_come_first(tmp_path: Path) -> None:
    file = tmp_path / "own.yml"
    file.write_text("[{pattern: mine, when: {metric: pool}, says: is ours, now: ['page {{ cause }}']}]")
    patterns = knowledge(msgspec.convert({"causes": {"knowledge": str(file)}}, Config))
    made = explainer(World(candidates(FULL, more=POOL)))
    made.patterns = patterns
    found = made(alert(), NOW)
    assert found is not None
    assert (found.pattern, found.next_steps.now) == ("mine", ("page bank",))
    assert found.summary.startswith("bank is ours (very likely): ")


def test_the_how_to_names_every_key_and_its_example_is_read(tmp_path: Path) -> None:
    page = (
        (REPOSITORY / "docs" / "how-to.md").read_text(encoding="utf-8").partition("## Teach it a pattern")[2]
    )
    (file := tmp_path / "own.yml").write_text(page.partition("```yaml")[2].partition("```")[0])
    first = knowledge(msgspec.convert({"causes": {"knowledge": str(file)}}, Config))[0]
    assert first.pattern == "licence server"
    told = re.findall(r"^\| `(\w+)` \|", page.partition("\n## ")[0], re.M)
    assert set(told) == {"when", *When.__struct_fields__}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[{pattern: a, when: {metric: '('}, says: x}]",
            "own.yml: [0].when.metric: not a regular expression",
        ),
        (
            "[{pattern: a, when: {kind: [speed]}, says: x}]",
            "own.yml: [0].when.kind[0]: 'speed' is not one of",
        ),
        (
            "[{pattern: a, when: {changed: moved}, says: b}]",
            "own.yml: [0].when.changed: 'moved' is not one of deployed, configured, fewer, machine",
        ),
        ("[{pattern: a, when: {}, says: '{{ x }}'}]", "own.yml: [0].says: {{ x }} is not one of cause"),
        ("[{pattern: a, when: {}}]", "own.yml: [0]: missing key `says`"),
        ("[", "causes.knowledge: own.yml: not valid YAML"),
    ],
)
def test_a_wrong_pattern_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "own.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        knowledge(msgspec.convert({"causes": {"knowledge": str(file)}}, Config))
    assert str(caught.value).startswith(words)


def test_every_pattern_that_comes_with_promantis_is_right() -> None:
    patterns = knowledge(Config())
    assert [list(one.problems()) for one in patterns] == [[]] * len(patterns)
    assert len({one.pattern for one in patterns}) == len(patterns) >= 20
    assert all(one.now and one.later for one in patterns)


def test_a_series_without_samples_has_words_too() -> None:
    c = candidates(FULL, more=POOL)
    c.values[:, [i for i, kind in enumerate(c.kinds) if kind == "traffic"]] = np.nan
    found = explainer(World(c))(alert(), NOW)
    assert found is not None
    assert "nan" not in str(found)
