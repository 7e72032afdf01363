"""Facts, and what they fold into: episodes of alerts, cases, and what was done when."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from sidecar.remedy.effect import Effect, Trial, effect
from sidecar.remedy.past import Busy, Ended, Intent, Odds, Past, odds, of_cause
from sidecar.types import Alert, Instant, JsonObject, Labels, labels_of

STAGES = (
    *("proposed", "planned", "approved", "acting", "verifying"),
    *("fixed", "undone", "failed", "unknown", "refused", "denied", "expired"),
)
OPEN = STAGES[:5]
"""Stages in which something may still happen."""


class Draft(NamedTuple):
    """A fact that is not yet in the journal."""

    kind: str
    case: str | None
    who: str
    data: JsonObject


class Fact(msgspec.Struct, frozen=True):
    """One line of the journal; `prev` is the hash of the line before it."""

    v: int
    seq: int
    at: Instant
    kind: str
    case: str | None
    who: str
    data: JsonObject
    prev: str


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One policy for one episode of one alert: the fold of its facts."""

    id: str
    fingerprint: str
    episode: int
    policy: str
    target: str
    object: str = ""
    """What the plan acts on: cool-downs and rates count by it."""
    namespace: str = ""
    labels: Labels
    annotations: Mapping[str, str]
    stage: str
    since: Instant
    why: tuple[str, ...] = ()
    cause: str = ""
    """The pattern of failure that the diagnosis recognised, last before anything was done; empty: none."""
    action: str = ""
    """Type of what was done."""
    words: str = ""
    """The reason of the last turn, for people."""
    reason: str = ""
    """The label of the last refusal."""
    expires_at: Instant = Instant(0)
    plan: JsonObject | None = None
    plan_hash: str = ""
    policy_hash: str = ""
    action_hash: str = ""
    """Of what is done alone: what it is verified by may change meanwhile."""
    saved: JsonObject | None = None
    """The state before, from the plan: what undo and a look after a crash need."""
    approved_by: str = ""
    auto: bool = False
    """No person approved it."""
    guard: tuple[JsonObject, ...] = ()
    intent_at: Instant | None = None
    acted_at: Instant | None = None
    unclear: bool = False
    """The request left, and its outcome is not known."""
    to_undo: bool = False
    """Verification failed, and the undo was not tried yet."""
    undo_intent: bool = False
    harm_before: bool = False
    """The harm to watch for was there before: it counts only after it was seen to end."""
    group: str = ""
    """Of whose members the action takes some: the pods of a workload, or the nodes."""
    takes: int = 0
    before: list[list[Any]] | None = None
    """What its verification compares, before the action."""
    effect: JsonObject | None = None
    """What it moved, and its siblings in the same time."""
    compared: JsonObject | None = None
    """What became of earlier firings that nothing was done for."""
    resolved: bool = False
    """The episode is over."""
    holding_since: Instant | None = None
    """Since when the verification holds: seen, not journalled, so it starts anew after a restart."""
    deadline: Instant | None = None
    """Until when it must hold; a restart may put it off a little."""

    @property
    def alert(self) -> Alert:
        """The alert as it was when the case was proposed."""
        return Alert(self.labels, self.annotations)

    @property
    def open(self) -> bool:
        """Something may still happen."""
        return self.stage in OPEN

    @property
    def escalates(self) -> bool:
        """It did not help and nothing of it is left: the next alternative may be proposed."""
        undone_or_nothing = self.stage == "undone" or (self.stage == "failed" and not self.undo_intent)
        return undone_or_nothing and not self.unclear and not self.resolved


def case_id(fingerprint: str, episode: int, policy: str) -> str:
    """The same for every replica and after every restart."""
    return hashlib.sha256(f"{fingerprint}/{episode}/{policy}".encode()).hexdigest()[:12]


def fold(case: Case | None, fact: Draft | Fact, at: Instant) -> Case | None:
    """The case after one more fact of it."""
    data = fact.data
    if fact.kind in ("case.proposed", "case.refused") and (case is None or case.stage == "refused"):
        case = _born(case, str(fact.case), data, at)
    if case is None:
        return None
    change: dict[str, Any] = {"words": data.get("words", ""), "holding_since": None}
    stage = _STAGE.get(fact.kind, case.stage)
    match fact.kind:
        case "case.proposed":
            why, target = tuple(data["why"]), data["target"]
            change |= {"expires_at": data["expires_at"], "why": why, "target": target, "reason": ""}
            change |= {"cause": data.get("cause", "")}
        case "case.refused":
            change |= {"reason": data["reason"], "guard": tuple(data.get("guard", ()))}
        case "plan.made":
            names = (
                "plan",
                "plan_hash",
                "policy_hash",
                "action_hash",
                "target",
                "object",
                "namespace",
                "saved",
            )
            change |= {name: data[name] for name in names if name in data} | {
                "approved_by": "",
                "auto": False,
            }
        case "case.approved":
            change |= {"approved_by": fact.who, "auto": bool(data.get("auto"))}
        case "intent":
            harm = bool(data.get("harm"))
            change |= {"intent_at": at, "guard": tuple(data.get("guard", ())), "harm_before": harm}
            change |= {"before": data.get("before"), "effect": None}
            change |= {"group": data.get("group", ""), "takes": data.get("takes", 0)}
            change |= {"cause": data.get("cause", ""), "action": data.get("action", "")}
        case "action.done":
            change |= {"acted_at": at, "deadline": data["deadline"]}
        case "action.failed" if data.get("unclear"):
            stage = "verifying"
            change |= {"acted_at": at, "unclear": True, "deadline": data["deadline"]}
        case "verify.failed":
            undoing = bool(data.get("undo"))
            stage = "verifying" if undoing else "unknown" if case.unclear else "failed"
            change |= {"to_undo": undoing, "harm_before": False}
        case "effect.measured":
            change |= {"effect": data["effect"]}
        case "effect.compared":
            change |= {"compared": {key: data[key] for key in data if key != "words"}}
        case "verify.passed":
            change |= {"harm_before": False}
        case "undo.intent":
            change |= {"undo_intent": True, "to_undo": False}
        case "undo.failed" if data.get("unclear"):
            stage = "unknown"
        case _:
            pass
    if stage != case.stage:
        change["since"] = at
    return msgspec.structs.replace(case, stage=stage, **change)


_STAGE = {
    "case.proposed": "proposed",
    "case.refused": "refused",
    "plan.made": "planned",
    "case.approved": "approved",
    "case.denied": "denied",
    "case.expired": "expired",
    "intent": "acting",
    "action.done": "verifying",
    "action.failed": "failed",
    "verify.passed": "fixed",
    "undo.intent": "acting",
    "undo.done": "undone",
    "undo.failed": "failed",
}


def _born(old: Case | None, id: str, data: JsonObject, at: Instant) -> Case | None:
    """A case begins with its proposal, or with the refusal to make one."""
    if "fingerprint" not in data:
        return old
    return Case(
        id=id,
        fingerprint=data["fingerprint"],
        episode=data["episode"],
        policy=data["policy"],
        target=data.get("target", ""),
        labels=labels_of(data["labels"]),
        annotations=data["annotations"],
        stage="refused",
        since=at,
    )


class Episode(msgspec.Struct, frozen=True):
    """One firing life of an alert."""

    fingerprint: str
    number: int
    alert: Alert
    starts: float
    """As Alertmanager said first: it may only be earlier in truth."""
    open: bool


class Notice(NamedTuple):
    """One alert of a webhook. Times are unix seconds, 0 when not set."""

    fingerprint: str
    alert: Alert
    firing: bool
    starts: float
    ends: float


def heard(episode: Episode | None, notice: Notice) -> Draft | None:
    """The fact that a notice makes, None when it says nothing new.

    Notices come twice, late and out of order: what ended before the episode began was about another one.
    """
    going = episode is not None and episode.open
    if notice.firing and not going:
        data = {
            "fingerprint": notice.fingerprint,
            "number": episode.number + 1 if episode else 1,
            "labels": dict(notice.alert.labels),
            "annotations": dict(notice.alert.annotations),
            "starts_at": notice.alert.starts_at,
            "starts": notice.starts,
        }
        return Draft("episode.started", None, "system", data)
    if not notice.firing and episode and going and not 0 < notice.ends <= episode.starts:
        return ended(episode, "resolved", notice.ends)
    return None


def ended(episode: Episode, words: str, ends: float = 0.0) -> Draft:
    """The fact that an episode is over; `ends` as Alertmanager said, 0 when it did not."""
    data = {"fingerprint": episode.fingerprint, "number": episode.number, "words": words, "ends": ends}
    return Draft("episode.ended", None, "system", data)


class Book:
    """All that the journal says, folded; `add` each fact once, in order."""

    def __init__(self) -> None:
        self.episodes: dict[str, Episode] = {}
        """By fingerprint: the latest one."""
        self.cases: dict[str, Case] = {}
        self.facts: dict[str, list[Fact]] = {}
        """By case."""
        self.intents: list[Intent] = []
        self.ended: dict[str, Ended] = {}
        """By case: what came of it."""
        self.trials: dict[str, Trial] = {}
        """By case: acted on, or held back."""
        self.compared: dict[str, JsonObject] = {}
        """By policy: its effect as it was told last, by `ended` and `value`."""
        self.undone: list[tuple[Instant, str]] = []
        self.by_labels: dict[Labels, str] = {}
        """The fingerprint of an alert that has had an episode."""
        self.firing = 0
        """Episodes that are open."""
        self._busy: dict[str, Busy] = {}
        self._by_episode: dict[tuple[str, int], list[str]] = {}

    def add(self, fact: Fact) -> None:
        """Fold one fact in; kinds that mean nothing to a case are passed over."""
        if fact.kind == "episode.started":
            labels, annotations = labels_of(fact.data["labels"]), fact.data["annotations"]
            alert = Alert(labels, annotations, fact.data.get("starts_at"))
            key = fact.data["fingerprint"]
            self.by_labels[labels] = key
            self.firing += not (key in self.episodes and self.episodes[key].open)
            self.episodes[key] = Episode(key, fact.data["number"], alert, fact.data["starts"], True)
        elif fact.kind == "episode.ended":
            key = fact.data["fingerprint"]
            self.firing -= self.episodes[key].open
            self.episodes[key] = msgspec.structs.replace(self.episodes[key], open=False)
            for case in self.cases_of(key):
                self.cases[case.id] = msgspec.structs.replace(case, resolved=True)
                if case.id in self.trials:
                    self.trials[case.id] = self.trials[case.id]._replace(ended=fact.at)
        elif fact.case is not None and (now := fold(self.cases.get(fact.case), fact, fact.at)):
            if now.id not in self.cases:
                self._by_episode.setdefault((now.fingerprint, now.episode), []).append(now.id)
            self.put(now)
            self.facts.setdefault(now.id, []).append(fact)
            self._count(fact, now)

    def _count(self, fact: Fact, case: Case) -> None:
        """What the guard counts; a case has one outcome, and a failed undo makes it a bad one."""
        if fact.kind == "intent":
            key = (case.target, case.object, case.namespace, case.fingerprint, case.episode)
            self.intents.append(Intent(fact.at, case.policy, *key))
        control = fact.kind == "case.refused" and case.reason == "held_back"
        if (control or fact.kind == "intent") and "within" in fact.data:
            self.trials[case.id] = Trial(case.policy, not control, fact.at, fact.data["within"])
        if fact.kind == "effect.compared" and fact.data["policy"]:
            self.compared[case.policy] = fact.data["policy"]
        if fact.kind == "undo.done":
            self.undone.append((fact.at, case.object))
        good = fact.kind == "verify.passed"
        lost = fact.kind == "action.failed" and bool(fact.data.get("unclear"))
        if good or (fact.kind in ("verify.failed", "action.failed") and not lost):
            about = (case.action, case.cause, case.policy_hash)
            self.ended[case.id] = Ended(fact.at, case.policy, case.object, good, not case.auto, *about)

    def past(self, storm: str = "") -> Past:
        """What the guard counts."""
        return Past(self.intents, tuple(self.ended.values()), self.undone, tuple(self._busy.values()), storm)

    def odds(self, policy: str, action: str = "", cause: str | None = None) -> Odds:
        """How often a policy helped so far, with this action and, where one is named, for this cause."""
        found = self.outcomes(policy, action)
        if cause is None:
            return odds(found)
        return of_cause(odds(one for one in found if one.cause == cause), odds(found))

    def outcomes(self, policy: str, action: str = "") -> list[Ended]:
        """What came of a policy, with this action."""
        found = (one for one in self.ended.values() if one.policy == policy)
        return [one for one in found if not action or one.action in ("", action)]

    def effect(self, policy: str, now: Instant) -> Effect:
        """How often alerts end in time with a policy, and without it."""
        return effect((one for one in self.trials.values() if one.policy == policy), now)

    def put(self, case: Case) -> None:
        """Keep what is known of a case, journalled or only seen."""
        self.cases[case.id] = case
        if case.stage in ("acting", "verifying"):
            self._busy[case.id] = Busy(case.object, case.group, case.takes)
        else:
            self._busy.pop(case.id, None)

    def cases_of(self, fingerprint: str) -> list[Case]:
        """The cases of the latest episode of an alert."""
        episode = self.episodes.get(fingerprint)
        return self.cases_in(episode) if episode else []

    def cases_in(self, episode: Episode) -> list[Case]:
        """The cases of an episode."""
        return [self.cases[id] for id in self._by_episode.get((episode.fingerprint, episode.number), ())]
