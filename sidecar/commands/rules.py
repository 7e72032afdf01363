"""`promantis rules`: the alert rules on Promantis' metrics, with labels, selectors and thresholds of your own."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from sidecar.types import OURS, ConfigError, Duration

FOLDER = Path(__file__).parents[1] / "rules"
ALERTS, RECORDING = FOLDER / "promantis.rules.yml", FOLDER / "promantis.recording.yml"
FIXED = (OURS, "promantis_tier")
TIERS = ("high", "medium", "low")
_NUMBER, _METRIC = r"\d+(?:\.\d+)?", re.compile(r"\b(promantis_\w+)\b(\{)?(?!\s*\()")
_NAME = re.compile(r"[a-zA-Z_]\w*")


class Threshold(NamedTuple):
    """A number in the rules that has a name: what stands before it, where, by default."""

    default: float
    alert: str
    before: tuple[tuple[str, str], ...]
    """(tier, text): the number follows this text in the expressions of this tier; no tier: of all."""


def _tiers(alert: str, name: str, text: str, *defaults: float) -> dict[str, Threshold]:
    """A tier begins at its border and ends at that of the one above it."""
    out = {}
    for i, (tier, default) in enumerate(zip(TIERS[-len(defaults) :], defaults, strict=True)):
        here = TIERS[-len(defaults) :]
        below = ((here[i + 1], "< "),) if i + 1 < len(here) else ()
        out[f"{name}.{tier}"] = Threshold(default, alert, ((tier, text), *below))
    return out


THRESHOLDS: Mapping[str, Threshold] = {
    "score": Threshold(1, "PromantisAnomaly", (("", "promantis_anomaly_score >= "),)),
    **_tiers("PromantisAnomaly", "confidence", "[5m]) >= ", 0.9, 0.6, 0.3),
    **_tiers("PromantisGroupAnomaly", "group_score", "promantis_group_anomaly_score >= ", 2, 1),
    **_tiers("PromantisPredictedBreach", "probability", "(promantis_breach_probability) >= ", 0.9, 0.7, 0.5),
    "watch_stale_seconds": Threshold(900, "PromantisWatchStale", (("", "> "),)),
    "tick_late_seconds": Threshold(30, "PromantisTickLate", (("", "> "),)),
    "state_not_saved_seconds": Threshold(3600, "PromantisStateNotSaved", (("", "> "),)),
}
"""By name: all that `--set` knows beside the times of alerts."""
TIMES = ("for", "keep_firing_for")


class Wanted(NamedTuple):
    """What shall be other than the default."""

    labels: Mapping[str, str] = {}
    selector: str = ""
    numbers: Mapping[str, float] = {}
    """By name in THRESHOLDS."""
    times: Mapping[tuple[str, str, str], str] = {}
    """By `for` or `keep_firing_for`, alert and tier (empty: every tier)."""
    drop: Sequence[str] = ()
    runbooks: str = ""
    """Address of the page whose headings are the alerts about Promantis itself."""


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--recording", action="store_true", help="the recording rules instead of the alerts")
    parser.add_argument(
        "--selector", default="", metavar="MATCHERS", help="""only of these series, e.g. 'cluster="eu"'"""
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="one more label of every rule"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a threshold (--list names all), or for.ALERT, for.ALERT.TIER, keep_firing_for.ALERT[.TIER]",
    )
    parser.add_argument("--drop", action="append", default=[], metavar="ALERT", help="leave this alert out")
    parser.add_argument(
        "--runbook-url", default="", metavar="URL", help="page with a section for each of these alerts"
    )
    parser.add_argument("--list", action="store_true", help="name the thresholds with their defaults")


def run(args: argparse.Namespace) -> int:
    """0; the rules go to stdout, for `rule_files` of Prometheus."""
    text = (RECORDING if args.recording else ALERTS).read_text(encoding="utf-8")
    if args.list:
        print("\n".join(f"{name}={value.default:g}  {value.alert}" for name, value in THRESHOLDS.items()))
        return 0
    known = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    print(
        rendered(text, wanted(args, [rule for group in known["groups"] for rule in group["rules"]])), end=""
    )
    return 0


def wanted(args: argparse.Namespace, rules: Sequence[Mapping[str, Any]]) -> Wanted:
    """What the flags ask for; ConfigError names the flag that is wrong."""
    alerts = {rule["alert"] for rule in rules}
    labels = dict(_pair("--label", text) for text in args.label)
    for name in labels:
        if not _NAME.fullmatch(name) or name in FIXED or name.startswith("source_"):
            raise ConfigError("--label", f"{name!r} is not the name of a label that may be set")
    if args.selector:
        try:
            promql_parser.parse(f"x{{{args.selector}}}")
        except ValueError as error:
            raise ConfigError("--selector", f'not matchers such as cluster="eu": {error}') from None
    numbers: dict[str, float] = {}
    times: dict[tuple[str, str, str], str] = {}
    for text in args.set:
        name, value = _pair("--set", text)
        kind, _, of = name.partition(".")
        alert, _, tier = of.partition(".")
        if kind in TIMES and alert in alerts and tier in ("", *TIERS):
            try:
                times[kind, alert, tier] = str(Duration.parse(value))
            except ValueError as error:
                raise ConfigError(f"--set {name}", str(error)) from None
        elif name in THRESHOLDS:
            numbers[name] = _number(name, value)
        else:
            known = ", ".join((*THRESHOLDS, *(f"{kind}.ALERT[.TIER]" for kind in TIMES)))
            raise ConfigError("--set", f"unknown name {name!r} (known: {known})")
    for name in args.drop:
        if name not in alerts:
            raise ConfigError("--drop", f"there is no alert {name!r} (there are {', '.join(sorted(alerts))})")
    _check_order(numbers)
    return Wanted(labels, args.selector, numbers, times, tuple(args.drop), args.runbook_url)


def _pair(flag: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ConfigError(flag, f"{text!r} is not NAME=VALUE")
    return name, value


def _number(name: str, text: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise ConfigError(f"--set {name}", f"{text!r} is not a number such as 0.8")
    value = float(text)
    if name.partition(".")[0] in ("confidence", "probability") and not 0 < value < 1:
        raise ConfigError(f"--set {name}", "must lie between 0 and 1")
    return value


def _check_order(numbers: Mapping[str, float]) -> None:
    """A tier must begin above the one below it, else it would be empty."""
    of = {name: numbers.get(name, threshold.default) for name, threshold in THRESHOLDS.items()}
    for upper, lower in pairwise(of):
        kind = upper.partition(".")
        if kind[1] and kind[0] == lower.partition(".")[0] and of[upper] <= of[lower]:
            raise ConfigError(f"--set {upper}", f"{of[upper]:g} is not above {lower} ({of[lower]:g})")


def rendered(text: str, wanted: Wanted) -> str:
    """The file as it is where nothing else is wanted, else without its comments.

    >>> rendered("groups: []  # as it is", Wanted())
    'groups: []  # as it is'
    """
    if wanted == Wanted():
        return text
    whole = yaml.safe_load(text)
    for group in whole["groups"]:
        kept = [rule for rule in group["rules"] if rule.get("alert") not in wanted.drop]
        group["rules"] = [_changed(rule, wanted) for rule in kept]
    whole["groups"] = [group for group in whole["groups"] if group["rules"]]
    return _Dumper.text(whole)


def _changed(rule: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    alert, tier = rule.get("alert", ""), rule.get("labels", {}).get("promantis_tier", "")
    new = {**rule, "expr": selecting(_set(rule["expr"], alert, tier, wanted.numbers), wanted.selector)}
    promql_parser.parse(new["expr"])
    for (kind, name, only), value in wanted.times.items():
        if name == alert and only in ("", tier):
            new[kind] = value
    if wanted.labels:
        new["labels"] = {**wanted.labels, **rule.get("labels", {})}
    if wanted.runbooks and alert:
        new["annotations"] = {**rule["annotations"], "runbook_url": f"{wanted.runbooks}#{alert.lower()}"}
    return new


def _set(expr: str, alert: str, tier: str, numbers: Mapping[str, float]) -> str:
    for name, value in numbers.items():
        threshold = THRESHOLDS[name]
        for where, before in threshold.before if threshold.alert == alert else ():
            if where in ("", tier):
                expr = re.sub(re.escape(before) + _NUMBER, f"{before}{value:g}", expr, count=1)
    return expr


def selecting(expr: str, selector: str) -> str:
    """The expression with matchers on every metric of Promantis.

    >>> selecting('sum(promantis_series) / promantis_cases{stage="fixed"}', 'cluster="eu"')
    'sum(promantis_series{cluster="eu"}) / promantis_cases{cluster="eu",stage="fixed"}'
    """
    if not selector:
        return expr

    def one(found: re.Match[str]) -> str:
        return f"{found[1]}{{{selector}{',' if found[2] else '}'}"

    return _METRIC.sub(one, expr)


class _Dumper(yaml.SafeDumper):
    """Without anchors: each rule is read alone."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    @classmethod
    def text(cls, data: Mapping[str, Iterable[Any]]) -> str:
        return yaml.dump(data, Dumper=cls, sort_keys=False, allow_unicode=True, width=10_000)
