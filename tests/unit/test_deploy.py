"""What deploy/ ships is what its readers accept: Kubernetes' schemas, promtool, amtool, the schema of compose files."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sidecar.__main__ import main
from sidecar.commands.check import rbac
from sidecar.config import parse
from sidecar.demo.peers import Binaries

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
VERSIONS = ("1.30", "1.35")
"""Of Kubernetes, whose schemas the manifests must fit."""
REMEDY = """\
kubernetes: {lease: {namespace: monitoring, peers: "http://{{ holder }}.promantis-replicas:9909"}}
remedies:
  - name: more
    match: ['alertname="A"']
    action: {type: scale, namespace: shop, name: web, by: 1, max: 5}
    verify: {query: "up == 1"}
  - name: anywhere
    match: ['alertname="B"']
    action: {type: restart, namespace: "{{ labels.namespace }}", name: "{{ labels.deployment }}"}
    verify: {query: "up == 1"}
"""


TWO: dict[str, Any] = {
    "replicas": 2,
    "persistence": {"accessMode": "ReadWriteMany"},
    "config": {"kubernetes": {"lease": {}}},
}
"""Two replicas that do not know one another."""


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # what its classes ask for
    spec.loader.exec_module(module)
    return module


render = _module(DEPLOY / "render.py")
SCHEMA = json.loads((render.CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((render.CHART / "values.yaml").read_text(encoding="utf-8"))


def roles() -> list[dict[str, Any]]:
    """The rules that `promantis check --rbac` prints, as the chart's values want them."""
    made = yaml.safe_load_all(rbac(parse(REMEDY)))
    return [
        {"namespace": one["metadata"].get("namespace", ""), "rules": one["rules"]}
        for one in made
        if one["kind"] in ("Role", "ClusterRole")
    ]


ALL: dict[str, Any] = {
    "replicas": 2,
    "config": {**yaml.safe_load(REMEDY), "prometheus": {"url": "http://prometheus:9090"}},
    "persistence": {"accessMode": "ReadWriteMany", "storageClass": "shared"},
    "rbac": {"roles": roles()},
    "proxy": {"trusted": ["10.0.0.7/32"]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prom"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prom"}},
    "networkPolicy": {"egress": [{"to": [{"namespaceSelector": {}}]}]},
    "serviceAccount": {"annotations": {"a": "b"}},
    "service": {"annotations": {"a": "b"}},
    "podLabels": {"team": "sre"},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "k", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "pull"}],
    "extraArgs": ["--log.format=json"],
    "secrets": ["thanos"],
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
}
LEAST: dict[str, Any] = {
    "persistence": {"enabled": False},
    "serviceAccount": {"create": False, "name": "mine"},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
}
CASES = {"defaults": {}, "all": ALL, "least": LEAST}
cases = pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())


def one(made: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (o for o in made if o["kind"] == kind)
    return found


def test_the_plain_manifests_are_what_the_chart_makes() -> None:
    assert render.PLAIN.read_text(encoding="utf-8") == render.plain(), "run: python deploy/render.py"


@cases
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_object_fits_the_schemas_of_kubernetes(values: dict[str, Any], version: str) -> None:
    made = render.documents(values)
    core = [o for o in made if "monitoring.coreos.com" not in o["apiVersion"]]
    assert len(core) >= 3
    for o in core:
        kubernetes_validate.validate(o, version, strict=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_schemas_notice_what_is_wrong() -> None:
    broken = one(render.documents({}), "StatefulSet")
    broken["spec"]["template"]["spec"]["containers"][0]["port"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_the_values_fit_their_schema(values: dict[str, Any]) -> None:
    jsonschema.validate(render.merged(DEFAULTS, values), SCHEMA)


def test_every_value_is_in_the_schema_and_is_closed() -> None:
    assert set(DEFAULTS) == set(SCHEMA["properties"]) - {"global"}
    for name, default in DEFAULTS.items():
        known = SCHEMA["properties"][name].get("properties")
        if known is not None:
            assert set(default) <= set(known), name


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"replica": 2}, ""),
        ({"replicas": 2}, "persistence"),
        ({"replicas": 2, "persistence": {"accessMode": "ReadWriteMany"}}, "config"),
        (TWO, "config/kubernetes/lease"),
        ({"config": {"web": {"listen": "127.0.0.1:9909"}}}, "config"),
        ({"config": {"storage": {}}}, "config"),
        ({"rbac": {"roles": [{"namespace": "shop", "rules": []}]}}, "rbac/roles/0/rules"),
        ({"serviceMonitor": {"enabled": "yes"}}, "serviceMonitor/enabled"),
        ({"extraArgs": ["run"]}, "extraArgs/0"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], place: str) -> None:
    validator = jsonschema.Draft7Validator(SCHEMA)
    found = {
        "/".join(map(str, e.absolute_path)) for e in validator.iter_errors(render.merged(DEFAULTS, values))
    }
    assert any(path.startswith(place) for path in found), found
    assert found


@cases
def test_the_config_in_the_config_map_is_right(values: dict[str, Any]) -> None:
    config = parse(one(render.documents(values), "ConfigMap")["data"]["promantis.yml"])
    assert config.web.tokens_file == "/etc/promantis-tokens/tokens.yml"
    assert config.web.listen == "0.0.0.0:9909"
    assert config.storage.path == "/data"


@cases
def test_the_pod_is_restricted_and_its_probes_lead_somewhere(values: dict[str, Any]) -> None:
    pod = one(render.documents(values), "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {container[f"{p}Probe"]["httpGet"]["path"] for p in ("startup", "liveness", "readiness")} == {
        "/-/healthy",
        "/-/ready",
    }
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
    assert pod["automountServiceAccountToken"] == bool(values.get("rbac"))


def test_replicas_find_itanother_and_are_scraped_once() -> None:
    made = render.documents(ALL)
    pods = one(made, "StatefulSet")
    service = next(o for o in made if o["metadata"]["name"] == pods["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"].items() <= pods["spec"]["template"]["metadata"]["labels"].items()
    config = parse(one(made, "ConfigMap")["data"]["promantis.yml"])
    assert config.kubernetes is not None
    assert config.kubernetes.lease is not None
    host = f"{{{{ holder }}}}.{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert config.kubernetes.lease.peers == f"http://{host}"
    wanted = one(made, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert not wanted.items() <= service["metadata"]["labels"].items()


def test_rights_are_those_of_the_configured_actions() -> None:
    assert not [o for o in render.documents({}) if "rbac" in o["apiVersion"]]
    made = [o for o in render.documents(ALL) if "rbac" in o["apiVersion"]]
    wanted = [o for o in yaml.safe_load_all(rbac(parse(REMEDY))) if "rbac" in o["apiVersion"]]
    for o in made:
        del o["metadata"]["labels"]
        named = [o["metadata"], *([o["roleRef"]] if "roleRef" in o else [])]
        for it in (
            named if o["kind"].startswith("Cluster") else ()
        ):  # else a release of that name elsewhere has it
            assert it["name"] == "promantis-monitoring"
            it["name"] = "promantis"
    assert sorted(made, key=str) == sorted(wanted, key=str)
    assert {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} == {o["kind"] for o in made}


def test_the_operator_scrapes_with_honor_labels_and_gets_the_rules(peers: Binaries, tmp_path: Path) -> None:
    made = render.documents(ALL)
    (endpoint,) = one(made, "ServiceMonitor")["spec"]["endpoints"]
    service = next(o for o in made if o["kind"] == "Service" and o["spec"].get("clusterIP") != "None")
    assert endpoint["honorLabels"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    wanted = one(made, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    rules = DEPLOY.parent / "rules" / "promantis.rules.yml"
    spec = one(made, "PrometheusRule")["spec"]
    assert spec == yaml.safe_load(rules.read_text(encoding="utf-8"))
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    assert_accepts(peers.promtool, "check", "rules", tmp_path / "rules.yml")


def test_the_operator_may_get_rules_with_thresholds_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--set", "score=2", "--label", "team=sre"]) == 0
    mine = capsys.readouterr().out
    spec = one(render.documents(ALL | {"prometheusRule": {"enabled": True, "file": mine}}), "PrometheusRule")[
        "spec"
    ]
    assert spec == yaml.safe_load(mine)
    assert spec["groups"][0]["rules"][0]["labels"]["team"] == "sre"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ lookup .Values.a }}", "lookup is not known"),
        ("{{ if .Values.a }}x", "has no end"),
        ("x{{ end }}", "end without its beginning"),
    ],
)
def test_the_renderer_refuses_what_it_does_not_know(template: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(render.TemplateError, match=re.escape(words)):
        render.Renderer({"t": template}, {"Values": {"a": 1}}, tmp_path).render("t")


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("a\n{{- if .v.yes }}\nb\n{{- else }}\nc\n{{- end }}\nd", "a\nb\nd"),
        ("a {{ if .v.no }}b{{ else }}c{{ end }}", "a c"),
        ("{{ range .v.list }}<{{ .name }}{{ $.v.one }}>{{ end }}", "<x1><y1>"),
        ("{{ with .v.none }}{{ . }}{{ else }}none{{ end }}", "none"),
        ('{{ define "n" }}{{ .a }}!{{ end }}{{ include "n" .v | quote }}', '"A!"'),
        ('{{ .v.none | default (printf "%s-%s" .v.a "b") }}', "A-b"),
        ("k:\n  {{- toYaml .v.map | nindent 2 }}", "k:\n  a: 1\n  b:\n  - x"),
        ("{{ if gt (int .v.one) 1 }}many{{ end }}{{ .v.yes }}", "true"),
    ],
)
def test_the_renderer_renders_as_go_does(template: str, made: str, tmp_path: Path) -> None:
    v = {"yes": True, "no": False, "one": 1, "a": "A", "list": [{"name": "x"}, {"name": "y"}],
         "map": {"b": ["x"], "a": 1}}  # fmt: skip
    assert render.Renderer({"t": template}, {"v": v}, tmp_path).render("t") == made


# --------------------------------------------------------------------------- compose, image, unit


def assert_accepts(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))


def test_compose_fits_its_schema_and_names_files_that_exist() -> None:
    tool = Path(sys.executable).parent / "check-jsonschema"
    assert_accepts(tool, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yml")
    volumes = [v.split(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", [])]
    for volume in volumes:
        there = (DEPLOY / volume).exists() if volume.startswith(".") else volume in COMPOSE["volumes"]
        assert there, volume


def test_compose_runs_pinned_images_with_nothing_to_gain() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.search(r":(v?\d+\.\d+\.\d+|local)$", service["image"]), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_the_configs_of_compose_are_right(peers: Binaries, tmp_path: Path) -> None:
    folder = DEPLOY / "compose"
    config = parse((folder / "promantis.yml").read_text(encoding="utf-8"))
    assert config.remedies
    make = _module(folder / "make_tokens.py")
    make.main(tmp_path)
    made = {one["name"]: one for one in json.loads((tmp_path / "tokens.yml").read_text(encoding="utf-8"))}
    assert made.keys() == make.ROLES.keys()
    again = (tmp_path / "admin.token").read_text(encoding="utf-8")
    make.main(tmp_path)
    assert (tmp_path / "admin.token").read_text(encoding="utf-8") == again == made["admin"]["token"]
    for name in ("prometheus.yml", "alertmanager.yml"):
        text = (folder / name).read_text(encoding="utf-8").replace("/secrets", str(tmp_path))
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "rules").symlink_to(DEPLOY.parent / "rules")
    (tmp_path / "shop.rules.yml").symlink_to(folder / "shop.rules.yml")
    assert_accepts(peers.promtool, "check", "config", tmp_path / "prometheus.yml")
    assert_accepts(peers.amtool, "check-config", tmp_path / "alertmanager.yml")


def test_the_image_is_pinned_and_not_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", text, flags=re.M)
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])
    assert re.findall(r"^USER (\S+)", text, flags=re.M) == ["65532:65532"]
    copied = re.findall(r"^COPY (?!--from)(\S+)", text, flags=re.M)
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    for path in [*copied, "README.md"]:
        assert (DEPLOY.parent / path).exists(), path
        assert f"!{path}\n" in kept, path


def test_what_is_started_knows_its_flags() -> None:
    """The command lines of image, chart and unit are taken by the program's own parser."""
    from argparse import ArgumentParser

    from sidecar.commands import run

    parser = ArgumentParser()
    run.add(parser)
    unit = (DEPLOY / "systemd" / "promantis.service").read_text(encoding="utf-8")
    (started,) = re.findall(r"^ExecStart=\S+ run (.*)$", unit, flags=re.M)
    (image,) = re.findall(r"^CMD (.*)$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    container = one(render.documents(ALL), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    for arguments in (started.split(), json.loads(image)[1:], container["args"][1:]):
        parser.parse_args(arguments)


@cases
def test_helm_itself_makes_the_same_of_the_chart(values: dict[str, Any]) -> None:
    """By Helm's own library, where it is installed: 250 MB, so it is in no lock file (pip install helm-python-sdk)."""
    helm = pytest.importorskip("helm_python")
    with helm.Chart.load(str(render.CHART)) as chart:
        made = chart.render(values, name="promantis", namespace="monitoring")
    theirs = [
        one
        for path, text in made.items()
        if path.endswith(".yaml")
        for one in yaml.safe_load_all(text)
        if one
    ]
    assert sorted(theirs, key=_named) == sorted(render.documents(values), key=_named)
    report = helm.lint(str(render.CHART), values, namespace="monitoring", kube_version=VERSIONS[-1])
    assert report["errors"] == []
    assert [one["error"] for one in report["messages"]] == ["icon is recommended"]
    wrong = helm.lint(str(render.CHART), values | {"replicas": "two"})
    assert any("/replicas" in words for words in wrong["errors"])


def _named(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["kind"], one["metadata"]["name"], one["metadata"].get("namespace", "")
