"""Writes docs/reference from the code: `python -m docs.build`; a test holds the pages to it."""

from __future__ import annotations

import argparse
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import yaml
from prometheus_client import ProcessCollector

from docs import routes, structs
from sidecar.__main__ import COMMANDS, EXAMPLES, EXITS, _parser
from sidecar.adapters.http_config import HttpConfig
from sidecar.alerts.narrate import ANNOTATIONS
from sidecar.alerts.relay import AlertsConfig
from sidecar.commands.rules import ALERTS, RECORDING, THRESHOLDS
from sidecar.config import Config, presets
from sidecar.remedy.actions import CATALOGUE
from sidecar.remedy.policy import Alternative
from sidecar.signals.known import expose
from sidecar.telemetry import Telemetry

FOLDER = Path(__file__).with_name("reference")
BAR = "&#124;"
MADE = "\n\n<!-- Made by `python -m docs.build` from the code: change it there. -->\n"

CONFIG = """# Config

With no file at all, Promantis watches the alerting rules of `http://localhost:9090`. Unknown keys are errors, named
with their place. Durations are written as Prometheus writes them. `SIGHUP` or `POST /-/reload` reads the file
again; if anything in it is wrong the old one stays. `[]` stands for each entry of a list.

"""
HTTP_CONFIG = """## http

Credentials and TLS of Prometheus, Alertmanagers and Loki: Prometheus' `http_config` (HTTP/1.1 is spoken whatever
`enable_http2` says). Secrets and certificates in files are read again when they change. `http_headers` has an entry
for each name.

"""
ACTIONS = """# Actions

What `remedies[].action.type` may be, with the keys of each. Values may hold `{{ labels.name }}` and
`{{ annotations.name }}`; what a label puts into a name must be one. All but `http` and `silence` act on a cluster
(`kubernetes`, `pip install 'promantis[kubernetes]'`): the plan is a dry run by the server, its difference is what
is approved, and what was read is what is changed: an object that changed in between is planned anew. Fields are put
back only while they are as the action left them. Each action leaves an Event. `promantis check --rbac` prints the
rights that the config needs.

"""
SERIES = """# Metrics

## About your series

They carry the labels of the series and `watch`, those of a group `watch` or `group` and what its members share;
forecasts and probabilities also `horizon` (15m, 30m, 60m); breaches also `source_alertname`, `source_severity`,
`limit` and the static labels of your rule.

"""
PROCESS = """
And of its process what every exporter serves, where there is `/proc`: `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds` and
`process_start_time_seconds`.

"""
ANNOTATED = """# Annotations and alerts

## Annotations

Written on your alerts; their labels, which are their identity, are never touched. `alerts.annotations` chooses.

"""
ALERTING = """## Alerts on these metrics

`promantis rules` prints them. Route by two fixed labels: `promantis_kind` (`anomaly`, `breach`, `meta`) and
`promantis_tier` (`high`, `medium`, `low`, from confidence or probability). No label holds a measured number.

"""
HTTP = """# HTTP

Answers are JSON unless said; errors are `{"error": words, "where": place}`. Tokens are sent as `Authorization:
Bearer`; roles are view, feedback, approve, admin, each of which may do what those before it may. `or loopback`: no
token is asked for while Promantis listens on loopback only. The same for programs: [openapi.json](openapi.json).

"""
PRESETS = """# Presets

Watches that need no configuration. With `presets: auto` a watch is taken when the metrics of its query are there, a
list takes the same of some presets only; Prometheus is asked for the names of its metrics once a minute. They are
asked every 15 s to 1 min; `promantis check --live` says which are taken and what they cost. A watch of yours, or of
one of your rules, with the same expression takes the place of a preset's. Orders and payments explained by traffic
are in `deploy/examples/business.yml`.

"""


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """A table; a bar inside of a cell is escaped."""
    names = head.split("|")
    lines = [names, ["---"] * len(names), *([cell.replace("|", BAR) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def code(text: str) -> str:
    """As code, nothing where there is nothing."""
    if "|" in text:  # of which GitHub and mkdocs think differently inside of backticks
        escaped = html.escape(text, quote=False).replace("*", "&#42;")
        return f"<code>{escaped}</code>"
    return f"`{text}`" if text else ""


# --------------------------------------------------------------------------- the pages


def command_line() -> str:
    """Every command with its flags and examples, from argparse."""
    whole = _parser(*COMMANDS)
    (commands,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    out = ["# Command line\n\nA flag overrides the file. `promantis --version` prints the version.\n\n"]
    out.append("## Exit codes\n\n" + table("code|meaning", ((str(n), words) for n, words in EXITS.items())))
    for name, words in COMMANDS.items():
        shown = "\n".join(f"$ promantis {name} {arguments}".rstrip() for arguments in EXAMPLES[name])
        out.append(f"## {name}\n\n{words[0].upper()}{words[1:]}.\n\n```console\n{shown}\n```\n\n")
        flags = [
            (code(_flag(action)), _help(action))
            for action in commands.choices[name]._actions
            if not isinstance(action, argparse._HelpAction)
        ]
        out.append(table("flag|meaning", flags) if flags else "")
    return "".join(out)


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default}
    return re.sub(r"--[\w.-]+|<\w+>\.\w+|DIR/<\w+>\.\w+", lambda found: f"`{found[0]}`", text)


def _flag(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest.upper()
    choices = ",".join(map(str, action.choices)) if action.choices else ""
    value = str(action.metavar or choices or action.dest.upper())
    return action.option_strings[-1] + ("" if action.nargs == 0 else f"={value}")


def config() -> str:
    """Every key of the file, from the structs that it is read into."""
    stop = (HttpConfig, Alternative, *CATALOGUE.values())
    out = [CONFIG]
    found = list(structs.keys(Config, stop))
    for section in Config.__struct_fields__:
        mine = [key for key in found if key.path.replace("[]", "").split(".")[0] == section]
        words = structs.said_of(Config, section) if mine[0].path != section else ""
        out.append(f"## {section}\n\n{words}\n\n{table('key|type|default|meaning', map(_key, mine))}")
    out.append(HTTP_CONFIG + table("key|type|default", (_key(key)[:3] for key in structs.keys(HttpConfig))))
    return "".join(out)


def _key(key: structs.Key) -> list[str]:
    return [code(key.path), key.type, code(key.default), key.words]


def actions() -> str:
    """What `action.type` may be, from the catalogue."""
    out = [ACTIONS]
    for name, kind in CATALOGUE.items():
        words = " ".join((kind.__doc__ or "").split())
        out.append(
            f"## {name}\n\n{words}\n\n{table('key|type|default|meaning', map(_key, structs.keys(kind)))}"
        )
    return "".join(out)


def metrics() -> str:
    """Both kinds, from what serves them."""
    own = []
    registry = Telemetry().registry
    for collector in registry._collector_to_names:
        if isinstance(collector, ProcessCollector):
            continue
        labels = ", ".join(code(name) for name in collector._labelnames)  # type: ignore[attr-defined]  # the client's
        for family in collector.describe():
            name = family.name + ("_total" if family.type == "counter" else "")
            own.append([code(name), family.type, labels, family.documentation])
    return (
        SERIES
        + table("metric|meaning", ([code(f.name), f.help] for f in expose.FAMILIES))
        + "## About Promantis\n\n"
        + table("metric|type|labels|meaning", own)
        + PROCESS
    )


def alerts() -> str:
    """Annotations that are written, and alerts and recordings on our metrics."""
    default = AlertsConfig().annotations
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    recorded = yaml.safe_load(RECORDING.read_text(encoding="utf-8"))["groups"]
    return (
        ANNOTATED
        + table(
            "annotation|meaning|by default",
            (
                [code(f"promantis_{name}"), words, "yes" if name in default else ""]
                for name, words in ANNOTATIONS.items()
            ),
        )
        + ALERTING
        + table(
            "alert|kind|tier|when|for",
            (
                [
                    code(rule["alert"]),
                    rule["labels"]["promantis_kind"],
                    rule["labels"]["promantis_tier"],
                    code(rule["expr"]),
                    str(rule.get("for", "at once")),
                ]
                for group in groups
                for rule in group["rules"]
            ),
        )
        + "### Thresholds\n\nWhat `promantis rules --set NAME=VALUE` knows beside the times of alerts.\n\n"
        + table(
            "name|default|alert", ([code(n), f"{t.default:g}", code(t.alert)] for n, t in THRESHOLDS.items())
        )
        + "## Recordings\n\n"
        + table("name|what", ([code(r["record"]), code(r["expr"])] for g in recorded for r in g["rules"]))
    )


def http() -> str:
    """Every route."""
    rows = (
        [code(f"{route.method.replace('*', 'any')} {route.path}"), route.words, route.needs]
        for route in routes.found()
    )
    return HTTP + table("route|what it does|needs", rows)


def watched() -> str:
    """The presets with their watches."""
    out = [
        PRESETS
        + table(
            "preset|watches|of what", ([f"[{p.name}](#{p.name})", str(len(p.watches)), p.about] for p in presets())
        )
    ]  # fmt: skip
    for preset in presets():
        rows = ([code(w.name), w.kind, code(w.query)] for w in preset.watches)
        out.append(f"## {preset.name}\n\n" + table("watch|kind|query", rows))
    return "".join(out)


PAGES: Mapping[str, Callable[[], str]] = {
    "command-line.md": command_line,
    "config.md": config,
    "actions.md": actions,
    "metrics.md": metrics,
    "alerts.md": alerts,
    "http.md": http,
    "presets.md": watched,
}


def build() -> Iterator[tuple[str, str]]:
    """Name and text of every file of the reference."""
    for name, page in PAGES.items():
        yield name, page().rstrip() + MADE
    yield "openapi.json", json.dumps(routes.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in build():
        (FOLDER / name).write_text(text, encoding="utf-8")
