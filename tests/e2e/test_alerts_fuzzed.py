"""Made-up batches: Promantis reads and answers them as the real Alertmanager does."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.alerts.wire import decode
from sidecar.demo.peers import Stack
from sidecar.types import Instant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

texts = st.text(max_size=6) | st.sampled_from(["", "a", "foo.bar", "é", "\x7f", "\ud800", "<&>"])
year = st.sampled_from(["2026", "2099", "0001", "1970", "9999", "26"])
fraction = st.sampled_from(["", "", ".5", ",25", ".123456789", "."])
zone = st.sampled_from(["Z", "Z", "+01:00", "-23:59", "+24:00", "", "z", "+0100"])
times = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}".format,
    year,
    st.sampled_from(["01", "02", "11", "13"]),
    st.sampled_from(["01", "29", "31"]),
    st.sampled_from(["T", "T", " ", "t"]),
    st.sampled_from(["00", "9", "23", "24"]),
    st.sampled_from(["00", "59", "60"]),
    st.sampled_from(["00", "59", "60"]),
    fraction,
    zone,
) | st.sampled_from(
    ["", "2026-11-25", "2026-11-25T01:00Z", "2026-11-25T01:00", "0001-01-01T00:00:00Z", "now"]
)
urls = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["http:", "", "mailto:", "1x:", "h-t.t+p:", ":"]),
    st.sampled_from(["//", "/", "", "///"]),
    st.sampled_from(["h", "h:9", "h:", "h:x", "[::1]:9", "[::1", "u:p@h", "é", "%41", "%zz", "h h", "h%2", "*"]),
    st.sampled_from(["", "/", "/a b", "/%zz", "/%41", "/\x01", "/é"]),
    st.sampled_from(["", "?q=%zz", "#f", "#%zz", "? "]),
)  # fmt: skip
mappings = st.dictionaries(texts, texts, max_size=3) | st.dictionaries(
    texts, st.none() | st.integers(), max_size=1
)
alerts = st.fixed_dictionaries(
    {},
    optional={
        "labels": mappings,
        "annotations": mappings,
        "startsAt": times | st.none(),
        "endsAt": times | st.just(7),
        "generatorURL": urls,
        "more": st.none(),
    },
)
any_case = st.builds(
    lambda alert, f: {f(key): value for key, value in alert.items()},
    alerts,
    st.sampled_from([str, str.upper]),
)
batches = st.lists(any_case, max_size=3) | st.sampled_from([None, {}, 1, "x", [[]], [1], [{"labels": 1}]])


@pytest.fixture(scope="module")
def asked(module_stack: Stack) -> Iterator[http.client.HTTPConnection]:
    peer = asyncio.run(module_stack.alertmanager())
    connection = http.client.HTTPConnection(peer.listen, timeout=10)
    yield connection
    connection.close()


@settings(max_examples=400, deadline=None)
@given(batch=batches)
def test_beside_the_real_alertmanager(asked: http.client.HTTPConnection, batch: object) -> None:
    body = json.dumps(batch).encode()
    asked.request("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"})
    answer = asked.getresponse()
    theirs = answer.status, _plain(answer.read().decode())
    ours = decode(body, "application/json", Instant(time.time())).answer
    assert (ours.status, _plain(ours.body.decode())) == theirs


def _plain(body: str) -> str:
    """Without Go's own reasons; 0.28 joins by "; " what later ones join by a newline."""
    return re.split("(?<=because )", body)[0].replace("; ", "\\n")
