"""The catalogue of actions: each is checked at load, planned by a dry run, applied, taken back, looked at."""

from __future__ import annotations

from sidecar.remedy.actions.http import HttpAction

Action = HttpAction
CATALOGUE = {"http": HttpAction}
"""By `action.type`."""
TYPES = tuple(CATALOGUE)
