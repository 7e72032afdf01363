"""The catalogue of actions: each is checked at load, planned by a dry run, applied, taken back, looked at."""

from __future__ import annotations

from sidecar.remedy.actions.config import Config
from sidecar.remedy.actions.hpa import HpaBounds
from sidecar.remedy.actions.http import HttpAction
from sidecar.remedy.actions.nodes import Cordon, Drain, Uncordon
from sidecar.remedy.actions.patch import Patch
from sidecar.remedy.actions.pods import DeletePod, EvictPod
from sidecar.remedy.actions.restart import Restart
from sidecar.remedy.actions.rollback import Rollback
from sidecar.remedy.actions.scale import Scale
from sidecar.remedy.actions.silence import Silence

Action = (
    HttpAction
    | Scale
    | Restart
    | Rollback
    | DeletePod
    | EvictPod
    | Cordon
    | Uncordon
    | Drain
    | HpaBounds
    | Patch
    | Config
    | Silence
)
CATALOGUE = {
    "http": HttpAction,
    "scale": Scale,
    "restart": Restart,
    "rollback": Rollback,
    "delete-pod": DeletePod,
    "evict-pod": EvictPod,
    "cordon": Cordon,
    "uncordon": Uncordon,
    "drain": Drain,
    "hpa-bounds": HpaBounds,
    "patch": Patch,
    "config": Config,
    "silence": Silence,
}
"""By `action.type`."""
TYPES = tuple(CATALOGUE)
