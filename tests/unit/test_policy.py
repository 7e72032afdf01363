"""Which alerts a policy is for, and what exactly it would send."""

from __future__ import annotations

import json
import re
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from yarl import URL

from sidecar import config
from sidecar.remedy import matchers, templates
from sidecar.remedy import policy as policy_module
from sidecar.remedy.actions import TYPES
from sidecar.remedy.actions.http import HttpAction, HttpCall
from sidecar.remedy.past import Ended
from sidecar.remedy.policy import (
    REASONS,
    EarnedConfig,
    Policies,
    Proposal,
    Refusal,
    RemedyConfig,
    VerifyConfig,
    acts_alone,
    policy_hash,
    propose,
)
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, ConfigError, Instant, labels_of
from tests.unit.desk import POLICY, planned

LABELS = labels_of({"alertname": "Full", "severity": "page", "path": "a\\d\nb"})
VERIFY = VerifyConfig(query="up")
FORM, YAML = ({"Content-Type": kind} for kind in ("application/x-www-form-urlencoded", "application/yaml"))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('severity="page"', True),
        ("severity=page", True),
        (' severity = "page" ', True),
        ('"severity"="page"', True),
        ('severity!="page"', False),
        ('severity=~"pa"', False),
        ('severity=~"pa.*|warning"', True),
        ('severity!~"warning|info"', True),
        ('missing=""', True),
        ('missing!=""', False),
        ("missing=~.*", True),
        (r'path="a\\d\nb"', True),
        (r'path=~"a\\\d[\n]b"', True),  # no valid Go string: the classic reading keeps \d
        ("severity=", False),
    ],
)
def test_matchers_as_alertmanager_reads_them(text: str, fits: bool) -> None:
    assert matchers.parse(text).matches(LABELS) is fits


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("severity", "not a matcher: 'severity' (write name=\"value\" with =, !=, =~ or !~)"),
        ('="x"', 'not a matcher: \'="x"\' (write name="value" with =, !=, =~ or !~)'),
        ('""="x"', 'not a matcher: \'""="x"\' has no label name'),
        ('severity="page', 'not a matcher: the quotes of "page do not close'),
        ("severity=~(", "not a regular expression: '(': missing ), unterminated subpattern at position 0"),
    ],
)
def test_bad_matchers(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        matchers.parse(text)
    assert str(caught.value) == words


GOOD = {
    "name": "a",
    "match": ['alertname="X"'],
    "action": {"type": "http", "url": "http://shop/pool"},
    "verify": {"query": "up"},
}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("action.type", "shell", f"action.type: unknown type 'shell' (known: {', '.join(TYPES)})"),
        ("action.methd", "POST", "action: unknown key `methd`: did you mean `method`?"),
        (
            "action.method",
            "post",
            "action.method: unknown method 'post' (one of GET, POST, PUT, PATCH, DELETE)",
        ),
        ("action.url", "shop/pool", "action.url: not a url: 'shop/pool' (write http://host/path)"),
        ("action.url", "http://[::1", "action.url: not a url: Invalid IPv6 URL"),
        ("action.url", "http://a:b@shop/", "action.url: credentials belong into headers"),
        (
            "action.url",
            "http://{{ labels.instance }}/x",
            "action.url: templates stand after the host only: an alert must not choose who is called",
        ),
        (
            "action.url",
            "http://shop/{{ labels.a | upper }}",
            "action.url: unknown expression {{ labels.a | upper }} "
            "(write {{ labels.name }} or {{ annotations.name }})",
        ),
        ("action.url", "http://shop/{{ labels.a", "action.url: a {{ is not closed"),
        (
            "action.body",
            '{"size": {{ labels.size }}}',
            "action.body: not valid JSON (templates stand inside strings only): "
            "Expecting value: line 1 column 10 (char 9)",
        ),
        (
            "action",
            {"type": "http", "url": "http://shop/", "headers": YAML, "body": "a: {{ labels.a }}"},
            "action.body: nobody knows how to escape a label in application/yaml "
            "(templates stand in JSON, forms, XML and plain text)",
        ),
        ("action.headers", {"a b": "c"}, "action.headers.a b: not a header name"),
        ("action.headers", {"a": "b\nc"}, "action.headers.a: a header has one line"),
        (
            "action.undo",
            {"url": "ftp://shop"},
            "action.undo.url: not a url: 'ftp://shop' (write http://host/path)",
        ),
        ("approval", "never", "approval: unknown approval 'never' (one of manual, auto, earned)"),
        ("approval", "auto", "action: a person must approve what cannot be undone: the action has no `undo`"),
        ("earned", {"floor": 1}, "earned.floor: must be at least 0 and below 1"),
        (
            "then",
            [{"action": {"type": "http", "url": "x"}}],
            "then[0].action.url: not a url: 'x' (write http://host/path)",
        ),
        ("order", "worst", "order: unknown order 'worst' (one of given, best)"),
        ("name", "a/2", "name: must not hold a slash"),
        ("match", [], "match: needs at least one matcher: none would match every alert"),
        (
            "match",
            ['a="b"', "c"],
            "match[1]: not a matcher: 'c' (write name=\"value\" with =, !=, =~ or !~)",
        ),
        ("min_confidence", 80, "min_confidence: must lie between 0 and 1"),
        ("verify.hold", "10m", "verify.hold: must be shorter than within (10m)"),
        ("verify.query", "sum by (", "verify.query: not PromQL: unclosed left parenthesis"),
        ("verify.harm", "up ==", "verify.harm: not PromQL: invalid promql query"),
        ("when", "", "when: not PromQL: no expression found in input"),
        ("expires", "0", "expires: must be longer than 0s"),
        ("cooldown", "soon", "cooldown: not a valid duration: 'soon' (write 15s, 5m, 1h30m, 30d)"),
    ],
)
def test_what_is_wrong_is_found_when_the_file_is_loaded(place: str, value: object, words: str) -> None:
    remedy = msgspec.json.decode(msgspec.json.encode(GOOD))
    *path, last = place.split(".")
    section = remedy
    for key in path:
        section = section[key]
    section[last] = value
    with pytest.raises(ConfigError) as caught:
        config.parse(json.dumps({"remedies": [remedy]}))
    assert str(caught.value) == f"promantis.yml: remedies[0].{words}"


def test_two_policies_cannot_have_one_name() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(json.dumps({"remedies": [GOOD, GOOD]}))
    assert str(caught.value) == "promantis.yml: remedies[1].name: 'a' is taken by remedies[0]"


ACTION = HttpAction(
    url="http://shop/pool/{{ labels.pool }}?q={{ annotations.q }}",
    headers={"X-Pool": "{{ labels.pool }}"},
    body='{"pool": "{{ labels.pool }}"}',
)


def policy(**changes: object) -> RemedyConfig:
    given = {"name": "a", "match": ('alertname="X"',), "action": ACTION, "verify": VERIFY, **changes}
    return RemedyConfig(**given)  # type: ignore[arg-type]


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_values_stay_where_they_stand(pool: str, q: str) -> None:
    """Whatever a label says, it is one path segment, one query value, one JSON string, one header."""
    alert = Alert((("pool", pool),), {"q": q})
    if {".", ".."} & set(re.split(r"[/\\;]", pool)):
        assert propose(policy(), alert, None, None) == Refusal(
            "template", "a value would change the path of the url"
        )
        return
    request = ACTION.render(alert)
    url = URL(request.url)  # as the client reads it
    assert (url.host, url.raw_path.count("/")) == ("shop", 2)
    assert (url.parts[2] if len(url.parts) > 2 else "", url.query["q"]) == (pool, q)
    assert request.body is not None
    assert json.loads(request.body) == {"pool": pool}
    assert request.headers == {"X-Pool": pool, "Content-Type": "application/json"}


def test_an_alert_that_cannot_fill_the_template_is_refused() -> None:
    no_pool = Refusal("template", "the alert has no label pool")
    assert propose(policy(), Alert((), {}), None, None) == no_pool
    alert = Alert((("pool", "a\r\nX-Admin: 1"),), {"q": ""})
    words = "a control character cannot stand in a header"
    assert propose(policy(), alert, None, None) == Refusal("template", words)


@pytest.mark.parametrize(
    ("url", "value", "words"),
    [
        ("/pool/{{ annotations.q }}", "", "an empty value would change the path of the url"),
        ("/pool/{{ annotations.q }}/size", "", "an empty value would change the path of the url"),
        ("/pool/{{ annotations.q }}", "../admin", "a value would change the path of the url"),
        ("/pool/{{ annotations.q }}", "a\\..\\..\\admin", "a value would change the path of the url"),
        ("/pool/{{ annotations.q }}", "..;x", "a value would change the path of the url"),
        ("/pool/{{ annotations.q }}", "a/b;c", None),
        ("/pool/?q={{ annotations.q }}", "", None),
        ("//pool/p-{{ annotations.q }}/", "", None),
    ],
)
def test_no_value_leads_to_another_path(url: str, value: str, words: str | None) -> None:
    """An empty one would turn DELETE of a thing into that of all; some servers take %2F for a slash and end at `;`."""
    action = HttpAction(method="DELETE", url=f"http://shop{url}")
    alert = Alert((("a", "b"),), {"q": value})
    if words is None:
        assert action.render(alert).url.startswith("http://shop/")
        return
    with pytest.raises(Unfit, match=words):
        action.render(alert)


def test_what_is_called_like_a_secret_is_sent_and_not_shown() -> None:
    url = "http://shop/pool?api_key=sesame&size={{ labels.size }}"
    body = '{"size": 40, "login": {"password": "sesame"}}'
    action = HttpAction(url=url, body=body, undo=HttpCall(url=url, body="token=sesame&size=20", headers=FORM))
    alert = Alert((("size", "4"),), {})
    made = propose(policy(action=action), alert, None, None)
    assert isinstance(made, Proposal)
    assert made.target == "POST http://shop/pool?api_key=***&size=4"
    shown = action.render(alert).shown()
    assert shown["url"] == "http://shop/pool?api_key=***&size=4"
    assert shown["body"] == '{"size": 40, "login": {"password": "***"}}'
    assert action.undo is not None
    assert action.undo.render(alert).shown()["body"] == "token=***&size=20"
    sent = action.render(alert)
    assert (sent.url, sent.body) == (url.replace("{{ labels.size }}", "4"), body)


def test_forms_and_plain_text_are_escaped_for_what_they_are() -> None:
    alert = Alert((("pool", "a&b=c\n"),), {})
    xml = HttpAction(
        url="http://shop/", headers={"Content-Type": "text/xml"}, body="<p>{{ labels.pool }}</p>"
    )
    assert xml.render(Alert((("pool", '</p><admin a="1"/>'),), {})).body == (
        "<p>&lt;/p&gt;&lt;admin a=&quot;1&quot;/&gt;</p>"
    )
    form = HttpAction(
        url="http://shop/",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body="p={{ labels.pool }}",
    )
    assert form.render(alert).body == "p=a%26b%3Dc%0A"
    text = HttpAction(url="http://shop/", body="p={{ labels.pool }}").render(alert)
    assert (text.body, text.headers) == ("p=a&b=c\n", {"Content-Type": "text/plain; charset=utf-8"})


def test_the_hash_is_of_everything_that_would_be_sent_and_how_it_is_judged() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"action": msgspec.structs.replace(POLICY.action, method="PUT")},
        {"action": msgspec.structs.replace(POLICY.action, headers={"X-Pool": "secret"})},
        {"action": msgspec.structs.replace(POLICY.action, undo=None)},
        {"verify": VerifyConfig(query="up", harm="down")},
    ]
    made = [planned(msgspec.structs.replace(POLICY, **change)) for change in changes]
    made.append(planned(POLICY, version=1))
    assert len({one.hash for one in made}) == 6
    assert planned(POLICY) == made[0]


def _ended(*goods: bool, person: bool = True) -> list[Ended]:
    hash = policy_hash(policy())
    return [Ended(Instant(0), "a", "o", good, person, hash=hash) for good in goods]


def test_a_policy_earns_it_with_a_person_and_loses_it_by_itself() -> None:
    earned = policy(approval="earned", earned=EarnedConfig(in_a_row=5, floor=0.6))
    assert not acts_alone(earned, [])
    assert not acts_alone(earned, _ended(*[True] * 4))
    assert acts_alone(earned, _ended(*[True] * 5))
    assert acts_alone(earned, [*_ended(*[True] * 5), *_ended(True, True, person=False)])
    assert not acts_alone(earned, [*_ended(*[True] * 5), *_ended(False, person=False)])
    assert not acts_alone(earned, _ended(True, True, False, True, True, True, True))
    five_of_nine = _ended(*[False] * 4, *[True] * 5)
    assert not acts_alone(earned, five_of_nine), "enough in a row, but the record is poor"
    assert not acts_alone(policy(), _ended(*[True] * 99))


@pytest.mark.parametrize(
    ("confidence", "condition", "verdict"),
    [
        (None, True, Refusal("confidence_unknown", "no watched series belongs to the alert")),
        (0.79, True, Refusal("confidence_low", "confidence 0.79 is below 0.8")),
        (0.9, None, Refusal("condition_unknown", "Prometheus could not say whether up == 1")),
        (0.9, False, Refusal("condition_false", "up == 1 does not hold")),
        (
            0.9,
            True,
            Proposal(
                "a",
                "POST http://shop/",
                ('X matches alertname="X"', "confidence 0.90 is at least 0.8", "up == 1 holds"),
                3600.0,
            ),
        ),
    ],
)
def test_what_is_not_known_refuses(
    confidence: float | None, condition: bool | None, verdict: Proposal | Refusal
) -> None:
    careful = policy(action=HttpAction(url="http://shop/"), when="up == 1", min_confidence=0.8)
    assert propose(careful, Alert((("alertname", "X"),), {}), confidence, condition) == verdict


def test_the_preview_is_of_the_first_policy_that_could_act() -> None:
    policies = Policies(
        [
            policy(name="needs a pool"),
            policy(name="b", action=HttpAction(url="http://shop/"), when="up == 1"),
            policy(name="c", match=("alertname=Y",), action=HttpAction(url="http://shop/"), approval="auto"),
        ]
    )
    assert (
        policies.preview(Alert((("alertname", "X"),), {})) == "b: POST http://shop/ when approved, if up == 1"
    )
    assert policies.preview(Alert((("alertname", "Y"),), {})) == "c: POST http://shop/ at once"
    assert policies.preview(Alert((("alertname", "Z"),), {})) == ""


def test_templates_are_checked_anywhere() -> None:
    assert templates.check("{{labels.a}}-{{  annotations.b  }}") is None
    assert templates.check('{"a": {"b": 1}}') is None


def test_every_reason_is_a_known_label() -> None:
    said = {
        reason
        for path in Path(policy_module.__file__).parent.rglob("*.py")
        for reason in re.findall(r'Refusal\(\s*"(\w+)"', path.read_text())
    }
    assert said == set(REASONS)
