"""What a service's log says now that it did not say before: templates, mined by drain3, that are new or surge. Pure."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from sidecar.alerts.wire import whole

NOW, BEFORE = 300.0, 3600.0
"""Seconds until an alert that are looked at, and before those, that are normal."""
SURGE, LEAST = 4.0, 5
"""How many times as often as before, and how often at least, a template must come to be named."""
TOLD = 3
LONGEST = 400
"""Characters of a line that are read."""
_SECRET = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+|\b[A-Za-z0-9+/_-]{24,}={0,2}")
_LOGFMT = re.compile(r'\bmsg(?:age)?="((?:[^"\\]|\\.)*)"')
_BAD = re.compile(
    r"error|exception|fail|timed? ?out|timeout|refused|panic|fatal|exhaust|denied|unable|cannot", re.I
)


class Lines(NamedTuple):
    """Lines of a log, and how many seconds they cover."""

    text: Sequence[str]
    seconds: float


class Surge(NamedTuple):
    """A template that comes more often than it did."""

    template: str
    often: int
    usually: float
    """How often it would have come in the same time; 0: never."""

    @property
    def words(self) -> str:
        """For the explanation."""
        if not self.usually:
            return f'new in its log: "{self.template}" ({self.often} times)'
        return f'more in its log: "{self.template}" ({self.often} times, usually {self.usually:.0f})'


def there() -> bool:
    """Whether drain3 is installed."""
    return importlib.util.find_spec("drain3") is not None


def compare(before: Lines, now: Lines) -> list[Surge]:
    """The templates of now that are new or surge, what sounds bad and comes often first; none without a before."""
    if not before.text or not now.text:
        return []
    miner = _miner()
    were = Counter(_cluster(miner, line) for line in before.text)
    are = Counter(_cluster(miner, line) for line in now.text)
    templates = {cluster.cluster_id: cluster.get_template() for cluster in miner.drain.clusters}
    scale = now.seconds / before.seconds if before.seconds > 0 else 1.0
    found = [
        Surge(_shown(templates[id]), count, were[id] * scale)
        for id, count in are.items()
        if count >= LEAST and count >= SURGE * were[id] * scale
    ]
    found.sort(key=lambda s: (not _BAD.search(s.template), s.usually > 0, -s.often, s.template))
    return found[:TOLD]


def message(line: str) -> str:
    """The part of a line that says what happened, on one line and without what may be a secret.

    >>> message('{"level":"error","msg":"pool timeout","id":7}'), message('ts=1 msg="pool timeout" id=7')
    ('pool timeout', 'pool timeout')
    >>> message("token AAAAaaaaBBBBbbbbCCCCcccc of jo@shop.example refused")
    'token <*> of <*> refused'
    """
    text = line.strip().partition("\n")[0][: 10 * LONGEST]
    if text.startswith("{"):
        try:
            said = json.loads(text)
        except ValueError:
            said = {}
        text = next(
            (
                str(said[k])
                for k in ("msg", "message", "log", "event")
                if isinstance(said, dict) and said.get(k)
            ),
            text,
        )
    elif match := _LOGFMT.search(text):
        text = match[1]
    return _SECRET.sub("<*>", whole(text.partition("\n")[0][:LONGEST]))


def _miner() -> Any:
    from drain3 import TemplateMiner  # of the extra `logs`
    from drain3.template_miner_config import TemplateMinerConfig

    config = TemplateMinerConfig()
    config.profiling_enabled = False
    config.drain_max_clusters = 1000
    return TemplateMiner(config=config)


def _cluster(miner: Any, line: str) -> int:
    found: int = miner.add_log_message(message(line))["cluster_id"]
    return found


def _shown(template: str) -> str:
    return template if len(template) <= 120 else template[:119] + "…"
