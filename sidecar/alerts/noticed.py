"""How long the alerts of a user's rules took to fire, once per firing life: from the first odd sample on."""

from __future__ import annotations

from threading import Lock

from sidecar.alerts.lane import LIMIT
from sidecar.alerts.times import instant, resolved
from sidecar.telemetry import Telemetry
from sidecar.types import OURS, Alert, Finding, Instant, Labels


class Noticed:
    """Counts alerts that began since `began`: of those before it is not known whether they were counted.

    Called by the thread that finds words, and for pages.
    """

    def __init__(self, telemetry: Telemetry, began: Instant) -> None:
        self._telemetry, self._began = telemetry, began
        self._starts: dict[Labels, str | None] = {}
        self._lock = Lock()

    def __call__(self, alert: Alert, finding: Finding | None, now: Instant) -> None:
        """Take an alert with its series as they are now; what was counted, is over, or is not odd does not count."""
        starts = instant(alert.starts_at)
        if starts is None or starts < self._began or resolved(alert, now) or alert.label(OURS):
            return
        if finding is None or finding.since is None:
            return
        with self._lock:
            new = self._starts.pop(alert.labels, "") != alert.starts_at
            self._starts[alert.labels] = alert.starts_at  # at the end: the oldest is forgotten first
            if len(self._starts) > LIMIT:
                del self._starts[next(iter(self._starts))]
        if new:
            self._telemetry.time_to_detect.observe(max(0.0, starts - finding.since))
