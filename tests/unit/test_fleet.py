"""Alertmanagers that come and go: in files, in DNS, and what that does to the relay."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rrset
import pytest

from sidecar.adapters.alertmanager import AlertmanagerConfig
from sidecar.adapters.fleet import Fleet
from sidecar.adapters.found import DnsSd, FileSd, in_dns, in_files
from sidecar.adapters.http_config import HttpConfig, TlsConfig
from sidecar.types import ConfigError, Duration, Unavailable
from tests.unit.relaying import NOW, Peer, alert, known, refuse, running, sample, until


def urls(fleet: Fleet) -> list[str]:
    return [one.url for one in fleet]


def test_targets_in_files(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(
        "- {targets: ['am-0:9093', 'am-1:9093'], labels: {dc: eu}}\n- targets: ['am-1:9093']\n"
    )
    (tmp_path / "b.json").write_text(json.dumps([{"targets": ["[::1]:9093"]}]))
    (tmp_path / "empty.yml").write_text("")
    wanted = {"am-0:9093", "am-1:9093", "[::1]:9093"}
    assert in_files(FileSd(files=(f"{tmp_path}/*",))) == wanted
    assert in_files(FileSd(files=(f"{tmp_path}/gone*.yml",))) == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{a: b}", "is no list of targets: Expected `array`, got `object`"),
        ("[{targets: [5]}]", "is no list of targets: Expected `str`, got `int` - at `$[0].targets[0]`"),
        ("[{target: [a]}]", "is no list of targets: Object missing required field `targets` - at `$[0]`"),
        ("[{targets: ['http://am:9093']}]", "'http://am:9093' is no host:port"),
        ("[{targets: [am]}]", "'am' is no host:port"),
        ("[", "is no list of targets: while parsing a flow node"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Fleet([AlertmanagerConfig(file_sd=FileSd(files=(f"{tmp_path}/a.yml",)))])
    assert str(caught.value).startswith(f"{tmp_path}/a.yml: {words}")


async def test_a_file_that_is_just_written_takes_nobody_away(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text("[{targets: ['a:1']}]")
    fleet = Fleet([AlertmanagerConfig(file_sd=FileSd(files=(str(file),)))])
    file.write_text("")
    await fleet.look()
    assert urls(fleet) == ["http://a:1"], "what waits for it is not dropped"
    file.write_text("[{targets: ['b:1']}]")
    await fleet.look()
    assert urls(fleet) == ["http://b:1"]
    for left in (["http://b:1"], []):
        file.write_text("")
        await fleet.look()
        assert urls(fleet) == left, "believed when it stays so"
    await fleet.close()


async def test_files_that_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, changes = tmp_path / "a.yml", 0
    file.write_text("[{targets: ['b:1', 'a:1']}]")
    found = AlertmanagerConfig(
        file_sd=FileSd(files=(str(file),), refresh_interval=Duration(0.02)),
        scheme="https",
        path_prefix="/am/",
    )
    fleet = Fleet([AlertmanagerConfig(url="http://fixed:1"), found])
    first = list(fleet)
    assert urls(fleet) == ["http://fixed:1", "https://a:1/am", "https://b:1/am"]

    def changed() -> None:
        nonlocal changes
        changes += 1

    task = asyncio.create_task(fleet.run(changed))
    file.write_text("[{targets: ['b:1', 'c:1']}]")
    await until(lambda: changes == 1)
    assert urls(fleet) == ["http://fixed:1", "https://b:1/am", "https://c:1/am"]
    assert [fleet[0], fleet[1]] == [first[0], first[2]]  # who stays is not made anew
    file.write_text("[{targets: [")
    await until(lambda: "all stays as it was" in caplog.text)
    file.write_text("[{targets: []}]")
    await until(lambda: changes == 2)
    assert urls(fleet) == ["http://fixed:1"]
    task.cancel()
    await fleet.close()


def certify(ca: Path) -> None:
    make = ("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=ca", "-out", str(ca))
    subprocess.run([*make, "-keyout", str(ca.with_suffix(".key"))], check=True, capture_output=True)


async def test_who_cannot_be_asked_yet_is_looked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, ca = tmp_path / "a.yml", tmp_path / "ca.pem"
    file.write_text("[]")
    http = HttpConfig(tls_config=TlsConfig(ca_file=str(ca)))
    fleet = Fleet([AlertmanagerConfig(file_sd=FileSd(files=(str(file),)), scheme="https", http=http)])
    file.write_text("[{targets: ['a:1']}]")
    await fleet.look()
    assert urls(fleet) == []
    assert "tls_config: cannot be used" in caplog.text
    certify(ca)
    await fleet.look()
    assert urls(fleet) == ["https://a:1"]
    await fleet.close()


# --------------------------------------------------------------------------- DNS


@asynccontextmanager
async def name_server(*records: str) -> AsyncIterator[tuple[dns.asyncresolver.Resolver, list[str]]]:
    """A DNS server on loopback that knows SRV records of `_web._tcp.am.test`, and who asks it."""
    here = list(records)

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: object) -> None:
            question = dns.message.from_wire(data)
            answer = dns.message.make_response(question)
            if here and question.question[0].name.to_text() == "_web._tcp.am.test.":
                answer.answer.append(
                    dns.rrset.from_text_list(question.question[0].name, 1, "IN", "SRV", here)
                )
            self.transport.sendto(answer.to_wire(), address)  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    try:
        yield resolver, here
    finally:
        transport.close()


async def test_srv_records() -> None:
    async with name_server("0 5 9093 am-0.am.test.", "0 5 9094 am-1.am.test.") as (resolver, records):
        config = DnsSd(names=("_web._tcp.am.test",), refresh_interval=Duration(0.02))
        fleet = Fleet([AlertmanagerConfig(dns=config)], resolver)
        assert urls(fleet) == []
        await fleet.look()
        assert urls(fleet) == ["http://am-0.am.test:9093", "http://am-1.am.test:9094"]
        records.clear()  # nobody knows the name any more: that is no news about who is there
        await fleet.look()
        assert len(fleet) == 2
        with pytest.raises(Unavailable, match=r"^SRV _web\._tcp\.am\.test: "):
            await in_dns(config, resolver)
        records.append("0 5 9093 am-2.am.test.")
        await fleet.look()
        assert urls(fleet) == ["http://am-2.am.test:9093"]
        await fleet.close()


async def test_addresses() -> None:
    assert await in_dns(DnsSd(names=("localhost",), type="A", port=9093)) == {"127.0.0.1:9093"}
    with pytest.raises(Unavailable, match=r"^nowhere\.invalid: "):
        await in_dns(DnsSd(names=("nowhere.invalid",), type="A", port=9093))


# --------------------------------------------------------------------------- the relay


async def test_the_relay_follows() -> None:
    one, two = Peer("one"), Peer("two")
    two.answer = refuse("down")
    async with running("inline", one, two) as (it, telemetry):
        assert (await it.receive([alert()], NOW)).taken
        await until(lambda: sample(telemetry, "lane_alerts", alertmanager="two") == 1)
        three = Peer("three")
        it.adopt([one, three])
        assert telemetry.registry.get_sample_value("promantis_lane_alerts", {"alertmanager": "two"}) is None
        assert (await it.receive([alert("B")], NOW)).taken
        await until(lambda: three.words("B")[-1:] == one.words("B")[-1:] == [(three.got[0].ends_at, "known")])
        two.answer = None
        it.adopt([two])
        assert (await it.receive([alert("C")], NOW)).taken
        await until(lambda: two.words("C"))
    assert two.words() == []  # what waited for it is void
    assert one.words("C") == three.words("C") == []


async def test_who_waits_for_one_that_goes_is_told() -> None:
    peer = Peer("gone")
    peer.answer = lambda _: asyncio.sleep(60)
    async with running("inline", peer, enrich=known) as (it, _):
        waiting = asyncio.create_task(it.receive([alert()], NOW))
        await asyncio.sleep(0.02)
        it.adopt([])
        assert (await waiting)[:2] == (False, "gone: it is no Alertmanager of ours any more")
