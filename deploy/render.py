"""Renders the Helm chart without Helm: `python deploy/render.py` writes kubernetes/promantis.yaml, which a test checks.

It knows what the chart uses of Go's templates and of Helm's functions, and raises on anything else.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).resolve().parent
CHART = HERE / "helm" / "promantis"
PLAIN = HERE / "kubernetes" / "promantis.yaml"
HEADER = """\
# Made from the Helm chart's defaults by `python deploy/render.py`. Before `kubectl apply -f`: write image, Prometheus
# and Alertmanager, and make the tokens (docs/deploy.md).
"""
_ACTION = re.compile(r"(?:\s*\{\{-|\{\{)\s*((?:(?!\}\}).)*?)\s*(?:-\}\}\s*|\}\})", re.S)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\(|\)|\||[^\s()|]+')


class TemplateError(Exception):
    """The chart uses what this does not know, or calls `fail`."""


class Node(NamedTuple):
    """A piece of a template: text, an action, or a block with its body and what stands behind `else`."""

    kind: str
    words: str
    body: tuple[Node, ...] = ()
    other: tuple[Node, ...] = ()


def parse(text: str) -> tuple[Node, ...]:
    """A template as a tree."""
    pieces: list[tuple[str, str]] = []
    at = 0
    for found in _ACTION.finditer(text):
        pieces += [("text", text[at : found.start()]), ("do", found[1])]
        at = found.end()
    nodes, end = _block(iter([*pieces, ("text", text[at:])]))
    if end:
        raise TemplateError(f"{end} without its beginning")
    return nodes


def _block(pieces: Iterator[tuple[str, str]]) -> tuple[tuple[Node, ...], str]:
    """Nodes up to the `end` or `else` that ends them, and which of the two it was."""
    nodes: list[Node] = []
    for kind, words in pieces:
        head, _, rest = words.partition(" ")
        if kind == "text":
            nodes.append(Node("text", words))
        elif words in ("end", "else"):
            return tuple(nodes), words
        elif head in ("if", "with", "range", "define"):
            body, ended = _block(pieces)
            other, ended = _block(pieces) if ended == "else" else ((), ended)
            if ended != "end":
                raise TemplateError(f"{words}: has no end")
            nodes.append(Node(head, rest, body, other))
        else:
            nodes.append(Node("do", words))
    return tuple(nodes), ""


class Renderer:
    """One chart with its values; `root` is what a template sees as `$`."""

    def __init__(self, templates: Mapping[str, str], root: Mapping[str, Any], files: Path) -> None:
        self._root = root
        self._files = files
        self._defined: dict[str, tuple[Node, ...]] = {}
        self._trees = {name: parse(text) for name, text in templates.items()}
        for tree in self._trees.values():
            self._defined |= {json.loads(n.words): n.body for n in tree if n.kind == "define"}

    def render(self, name: str) -> str:
        """One template as text."""
        return self._text(self._trees[name], self._root)

    def _text(self, nodes: tuple[Node, ...], dot: Any) -> str:
        return "".join(self._node(node, dot) for node in nodes)

    def _node(self, node: Node, dot: Any) -> str:
        match node.kind:
            case "text":
                return node.words
            case "define":
                return ""
            case "do":
                return _shown(self._value(node.words, dot))
        value = self._value(node.words, dot)
        if not value:
            return self._text(node.other, dot)
        if node.kind == "range":
            return "".join(self._text(node.body, one) for one in value)
        return self._text(node.body, value if node.kind == "with" else dot)

    def _value(self, words: str, dot: Any) -> Any:
        tokens = _WORD.findall(words)
        value, rest = self._pipeline(tokens, dot)
        if rest:
            raise TemplateError(f"{words}: {rest} is left over")
        return value

    def _pipeline(self, tokens: list[str], dot: Any) -> tuple[Any, list[str]]:
        value: Any = None
        piped = False
        while True:
            arguments: list[Any] = []
            call: str | None = None
            while tokens and tokens[0] not in ("|", ")"):
                token, tokens = tokens[0], tokens[1:]
                if token == "(":
                    inner, tokens = self._pipeline(tokens, dot)
                    arguments.append(inner)
                    tokens = tokens[1:]
                elif call is None and not arguments and _is_name(token):
                    call = token
                else:
                    arguments.append(self._operand(token, dot))
            arguments += [value] if piped else []
            value = self._call(call, arguments) if call else arguments[0]
            if not tokens or tokens[0] == ")":
                return value, tokens
            tokens, piped = tokens[1:], True

    def _operand(self, token: str, dot: Any) -> Any:
        if token.startswith('"'):
            return json.loads(token)
        if re.fullmatch(r"-?\d+", token):
            return int(token)
        if token in ("true", "false"):
            return token == "true"
        base, _, path = token.partition(".")
        if base not in ("", "$"):
            raise TemplateError(f"{token} is not known")
        value = self._root if base == "$" else dot
        for key in filter(None, path.split(".")):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def _call(self, name: str, arguments: list[Any]) -> Any:
        if name == "include":
            return self._text(self._defined[arguments[0]], arguments[1])
        if name == ".Files.Get":
            return (self._files / arguments[0]).read_text(encoding="utf-8")
        return FUNCTIONS[name](*arguments)


def _is_name(token: str) -> bool:
    return token == ".Files.Get" or token in FUNCTIONS or token == "include"


def _shown(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _indented(width: int, text: str) -> str:
    return "\n".join(" " * width + line for line in text.split("\n"))


def _cut(suffix: str, text: str) -> str:
    return text.removesuffix(suffix)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "default": lambda other, value: value or other,
    "gt": lambda a, b: a > b,
    "int": int,
    "nindent": lambda width, text: "\n" + _indented(width, text),
    "printf": lambda shape, *values: shape % values,
    "quote": json.dumps,
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toYaml": lambda value: yaml.safe_dump(value, width=1 << 20).rstrip("\n").removesuffix("\n..."),
    "trimSuffix": _cut,
    "trunc": lambda width, text: text[:width],
}
"""What the chart uses of Helm's functions, by name."""


def merged(base: Any, over: Any) -> Any:
    """Values as Helm lays them over one another: mappings by key, anything else whole."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def render(
    values: Mapping[str, Any], release: str = "promantis", namespace: str = "monitoring"
) -> dict[str, str]:
    """Every template of the chart as text, by file; `values` lie over the chart's own."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    root = {
        "Values": merged(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), dict(values)),
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
        "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
    }
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted((CHART / "templates").iterdir())}
    renderer = Renderer(texts, root, CHART)
    return {name: renderer.render(name) for name in texts if not name.startswith("_")}


def documents(values: Mapping[str, Any], **release: str) -> list[dict[str, Any]]:
    """The objects that the chart makes of values."""
    texts = [text for name, text in render(values, **release).items() if name.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def plain() -> str:
    """The chart's defaults as plain manifests, without what only Helm reads."""
    made = documents({})
    for one in made:
        labels = one["metadata"]["labels"]
        labels["app.kubernetes.io/managed-by"] = "kubectl"
        del labels["helm.sh/chart"]
        one["metadata"].pop("annotations", None)
    stateful = next(one for one in made if one["kind"] == "StatefulSet")["spec"]["template"]["metadata"]
    for key in ("app.kubernetes.io/managed-by", "helm.sh/chart"):
        del stateful["labels"][key]
    del stateful["annotations"]
    return HEADER + yaml.dump_all(made, Dumper=_Plain, sort_keys=False, width=110)


class _Plain(yaml.SafeDumper):
    """Texts of several lines as they are."""


_Plain.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


if __name__ == "__main__":
    PLAIN.write_text(plain(), encoding="utf-8")
