"""The file's shape, composed of sections that live beside their owners; load() or an error with its path."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from sidecar.adapters import events
from sidecar.adapters.alertmanager import AlertmanagerConfig
from sidecar.adapters.kubernetes import KubernetesConfig
from sidecar.adapters.loki import LokiConfig
from sidecar.adapters.prometheus import PrometheusConfig
from sidecar.alerts.knowledge import Pattern
from sidecar.alerts.relay import AlertsConfig
from sidecar.remedy.actions import TYPES as ACTION_TYPES
from sidecar.remedy.guard import GuardConfig
from sidecar.remedy.policy import RemedyConfig
from sidecar.signals.ingest.changes import ChangesConfig
from sidecar.signals.ingest.topology import CausesConfig
from sidecar.signals.known.expose import ExpositionConfig
from sidecar.signals.learn.history import LearningConfig
from sidecar.signals.watch.calendar import UTC, EventConfig, Planned, When, planned, zone_problem
from sidecar.signals.watch.presets import Preset
from sidecar.signals.watch.wanted import RulesConfig, WatchConfig
from sidecar.types import ConfigError, Duration, Instant, Labels, Section
from sidecar.web.server import WebConfig

T = TypeVar("T")
KINDS = {
    "array": "a list", "object": "keys with values", "str": "text", "int": "a whole number", "float": "a number",
    "bool": "true or false", "null": "nothing",
}  # fmt: skip
"""What YAML has, by the names of msgspec."""
WRITE = {"array": "write [one, two]", "object": "write {key: value}", "str": "write it in quotes"}
PRESETS = Path(__file__).parent / "signals" / "watch" / "presets"
KNOWLEDGE = Path(__file__).parent / "alerts" / "knowledge.yml"


class StorageConfig(Section, frozen=True, kw_only=True):
    """Where state and journal live."""

    path: str = "data"
    """Folder of state, journal and `admin.token`; a file `killswitch` in it forbids every action."""


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    prometheus: PrometheusConfig = PrometheusConfig()
    """Where rules and samples come from."""
    alertmanagers: tuple[AlertmanagerConfig, ...] = ()
    """Where alerts go to, and who is asked for silences. Each by `url`, `file_sd` or `dns`."""
    alerts: AlertsConfig = AlertsConfig()
    """How alerts travel and what is written on them."""
    interval: Duration = Duration(15)
    """Between two ticks."""
    tz: str = UTC
    """Time zone whose days and weeks the series follow, e.g. `Europe/Berlin`."""
    watches: tuple[WatchConfig, ...] = ()
    """What is watched beside rules and presets."""
    presets: str | tuple[str, ...] = "auto"
    """`auto`, `none`, or a list of presets."""
    rules: RulesConfig = RulesConfig()
    """Which of your alerting rules are watched."""
    exposition: ExpositionConfig = ExpositionConfig()
    """What is served on `/metrics`."""
    events: tuple[EventConfig, ...] = ()
    """Planned events: what is odd then is not learned, and scores less than 1."""
    changes: tuple[ChangesConfig, ...] | None = None
    """How deployments are seen; `null`: by generations and images of kube-state-metrics, where it is there."""
    learning: LearningConfig = LearningConfig()
    """How much past is read, and what is learned when."""
    causes: CausesConfig = CausesConfig()
    """What helps to find who is to blame."""
    loki: LokiConfig = LokiConfig()
    """A look into the log of the likeliest cause."""
    remedies: tuple[RemedyConfig, ...] = ()
    """Policies: which alerts a fix may answer, what it does, and how it is verified."""
    guard: GuardConfig = GuardConfig()
    """What no policy may pass over."""
    freezes: tuple[EventConfig, ...] = ()
    """Times in which nothing is done."""
    kubernetes: KubernetesConfig | None = None
    """The cluster that actions change; `{}` is the one that Promantis runs in."""
    storage: StorageConfig = StorageConfig()
    web: WebConfig = WebConfig()
    """Where it listens, and who may do what."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What belongs to no section alone."""
        if self.interval <= 0:
            yield "interval", "must be greater than 0s"
        if words := zone_problem(self.tz):
            yield "tz", words
        known = [file.stem for file in sorted(PRESETS.glob("*.yml"))]
        if isinstance(self.presets, str) and self.presets not in ("auto", "none"):
            yield "presets", f"must be auto, none or a list of {', '.join(known)}"
        for i, preset in enumerate(() if isinstance(self.presets, str) else self.presets):
            if preset not in known:
                yield f"presets[{i}]", f"{preset!r} is not one of {', '.join(known)}"
        for i, remedy in enumerate(self.remedies if self.kubernetes is None else ()):
            if remedy.action.rights() or any(one.action.rights() for one in remedy.then):
                yield (
                    f"remedies[{i}].action",
                    "needs a cluster: write `kubernetes: {kubeconfig: FILE}`, or {} in one",
                )
        for section, entries in (
            ("watches", self.watches),
            ("events", self.events),
            ("freezes", self.freezes),
            ("remedies", self.remedies),
        ):
            names = [entry.name for entry in entries]
            for i, entry_name in enumerate(names):
                if entry_name in names[:i]:
                    yield (
                        f"{section}[{i}].name",
                        f"{entry_name!r} is taken by {section}[{names.index(entry_name)}]",
                    )


def load(path: str | Path) -> Config:
    """Read a config file; ConfigError with the place of the first mistake."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(path.name, "is not UTF-8 text") from None
    return parse(text, path.name)


def parse(text: str, name: str = "promantis.yml") -> Config:
    """Turn YAML into a Config; the error names the place as ``file: remedies[0].action.type: words``."""
    try:
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(where, f"not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(name, f"not valid YAML: {error}") from None
    config = _converted({} if raw is None else raw, Config, name)
    check(config, name)
    return config


def _converted(raw: Any, kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(raw, kind, dec_hook=_custom)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`")
        if place.endswith(".action.type"):
            words = words.replace("Invalid value", "unknown type") + f" (known: {', '.join(ACTION_TYPES)})"
        raise ConfigError(_where(name, place), _plain(words, _keys(kind, raw, place))) from None


@functools.cache  # reading YAML takes a while, and the watches are looked over every minute
def presets() -> tuple[Preset, ...]:
    """The presets that come with Promantis, in the shape of the config."""
    files = sorted(PRESETS.glob("*.yml"))
    return tuple(
        msgspec.convert(yaml.safe_load(file.read_text(encoding="utf-8")), Preset, dec_hook=_custom)
        for file in files
    )


def check(config: Config, name: str = "promantis.yml") -> None:
    """What types cannot say; each owner checks its own section with `problems()`."""
    for where, words in config.problems():
        raise ConfigError(f"{name}: {where}", words)
    for section in Config.__struct_fields__:
        value = getattr(config, section)
        for i, item in enumerate(value if isinstance(value, tuple) else (value,)):
            place = f"{section}[{i}]" if isinstance(value, tuple) else section
            for where, words in item.problems() if isinstance(item, Section) else ():
                raise ConfigError(f"{name}: {place}{'.' + where if where else ''}", words)
    try:
        events.read((*config.events, *config.freezes), config.tz)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.where}", error.words) from None


def knowledge(config: Config) -> tuple[Pattern, ...]:
    """Patterns of failure, the user's own first; ConfigError when their file cannot be read."""
    own = config.causes.knowledge
    return (*(_patterns(Path(own)) if own else ()), *_patterns(KNOWLEDGE))


def _patterns(file: Path) -> tuple[Pattern, ...]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"causes.knowledge: {file.name}", f"cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"causes.knowledge: {file.name}", f"not valid YAML: {error}") from None
    patterns = _converted(raw, tuple[Pattern, ...], file.name)
    for i, pattern in enumerate(patterns):
        for where, words in pattern.problems():
            raise ConfigError(f"{file.name}: [{i}].{where}", words)
    return patterns


def calendar(config: Config) -> tuple[Planned, ...]:
    """The planned events, with what is in files now; ConfigError when one cannot be read any more."""
    return planned(config.events, config.tz, events.read(config.events, config.tz))


def freezes(config: Config) -> Callable[[Labels, Instant], str]:
    """Names the freeze that is on for an alert with these labels; empty: none."""
    windows = planned(config.freezes, config.tz, events.read(config.freezes, config.tz))

    def frozen(labels: Labels, now: Instant) -> str:
        found = (
            one.name
            for one in windows
            if not one.match or any(all(m.matches(dict(labels)) for m in ms) for ms in one.match)
            if any(True for _ in one.between(now, Instant(now + 0.001)))
        )
        return next(found, "")

    return frozen


def check_whole(config: Config, name: str = "promantis.yml") -> None:
    """What only file and flags together can get wrong."""
    if config.alerts.mode == "inline" and not config.alertmanagers:
        raise ConfigError(
            f"{name}: alerts.mode", "inline needs an Alertmanager to send to: name one in alertmanagers"
        )


def _custom(kind: type, value: Any) -> Any:
    if kind is Duration:
        return Duration.parse(value)
    if kind is When:
        return When.parse(value)
    raise TypeError(f"no reader for {kind}")


def _where(name: str, place: str) -> str:
    place = place.replace("[...]", "").lstrip(".")
    return f"{name}: {place}" if place else name


def _keys(kind: Any, raw: Any, place: str) -> Sequence[str]:
    """The keys that may stand at a place such as `.remedies[0].action`, where a `type` decides which.

    >>> _keys(Config, {}, ".storage")
    ['path']
    """
    steps: list[str | int] = [int(i) if i else key for key, i in re.findall(r"\.(\w+)|\[(\d+)\]", place)]
    at = [msgspec.inspect.type_info(kind)]
    for step in steps:
        at = [inner for one in at for inner in _inside(one, step)]
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            raw = None
    structs = [one for one in at for one in _inside(one) if isinstance(one, msgspec.inspect.StructType)]
    if len(structs) > 1 and isinstance(raw, dict):
        structs = [one for one in structs if one.tag == raw.get(one.tag_field)]
    return [field.encode_name for one in structs for field in one.fields]


def _inside(kind: msgspec.inspect.Type, step: str | int | None = None) -> list[msgspec.inspect.Type]:
    """What may stand below a type at a key or a number; without one, the types that it is one of."""
    match kind:
        case msgspec.inspect.UnionType(types=types):
            return [one for inner in types for one in _inside(inner, step)]
        case _ if step is None:
            return [kind]
        case msgspec.inspect.StructType(fields=fields):
            return [field.type for field in fields if field.encode_name == step]
        case msgspec.inspect.VarTupleType(item_type=inner) | msgspec.inspect.DictType(value_type=inner):
            return [inner]
        case _:
            return []


def _plain(words: str, keys: Sequence[str] = ()) -> str:
    """msgspec's words in the user's terms, with the keys that may stand there.

    >>> _plain("Object contains unknown field `intervall`", ["interval"])
    'unknown key `intervall`: did you mean `interval`?'
    >>> _plain("Expected `array`, got `str`"), _plain("Expected `object | null`, got `int`")
    ('must be a list, not text (write [one, two])', 'must be keys with values, not a whole number (write {key: value})')
    """
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", words):
        near = difflib.get_close_matches(unknown[1], keys, 1, 0.7)
        known = f" (known: {', '.join(keys)})" if keys else ""
        return f"unknown key `{unknown[1]}`" + (f": did you mean `{near[0]}`?" if near else known)
    if other := re.fullmatch(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`", words):
        wanted, got = other[1], other[2]
        how = f" ({WRITE[wanted]})" if wanted in WRITE and got != "null" else ""
        return f"must be {KINDS.get(wanted, wanted)}, not {KINDS.get(got, got)}{how}"
    words = re.sub(r"Object missing required field (`.*`)", r"missing key \1", words)
    return words[0].lower() + words[1:]
