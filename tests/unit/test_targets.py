"""A request to a target leaves once, and what nobody knows is said to be unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.adapters.targets import Allowed, KillSwitch, Refused, Targets
from sidecar.demo.peers import free_port
from sidecar.types import Rejected, Unavailable


@pytest.fixture
async def targets() -> AsyncIterator[Targets]:
    targets = Targets(lambda: ["127.0.0.1"], timeout=0.3)
    yield targets
    await targets.close()


async def serve(answer: bytes | None, seen: list[bytes]) -> tuple[asyncio.Server, str]:
    """A raw server: it sees what really comes, and may close or keep silent."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(4096))
        if answer is None:
            await reader.read()  # until the client gives up
        writer.write(answer or b"")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/pool"


async def test_what_is_sent_and_a_redirect_is_not_followed(targets: Targets) -> None:
    seen: list[bytes] = []
    server, url = await serve(b"HTTP/1.1 307 x\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", seen)
    async with server:
        assert await targets.call("PUT", url, {"X-A": "b", "Content-Type": "text/plain"}, "é") == 307
    (request,) = seen
    assert request.startswith(b"PUT /pool HTTP/1.1\r\n")
    assert b"X-A: b\r\n" in request
    assert b"Connection: close\r\n" in request, "a kept connection may be dead when it is needed"
    assert request.endswith("\r\n\r\né".encode())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the target did not answer: Server disconnected"),
        (None, "the target did not answer within 0.3s"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_no_answer_is_unknown_and_never_sent_again(
    targets: Targets, method: str, answer: bytes | None, words: str
) -> None:
    seen: list[bytes] = []
    server, url = await serve(answer, seen)
    async with server:
        with pytest.raises(Unavailable) as caught:
            await targets.call(method, url, {}, None)
    assert str(caught.value) == words
    assert len(seen) == 1


async def test_nobody_there_is_known_not_to_have_got_it(targets: Targets) -> None:
    """So the case fails at once and the next alternative has its turn; nobody waits whether it helped."""
    with pytest.raises(Rejected, match=r"^nothing was sent: Cannot connect to host 127\.0\.0\.1"):
        await targets.call("GET", f"http://127.0.0.1:{free_port()}/", {}, None)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/",
        "http://10.0.0.1/",
        "http://192.168.0.1:8080/",
        "http://[::1]:9/",
        "http://[::ffff:10.0.0.1]/",
        "http://0.0.0.0/",
        "http://localhost:9/",
        "http://localtest:9/",
        "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:9/",
        "http://127\u30020\u30020\u30021:9/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a00:1::]/",
    ],
)
async def test_no_private_address_unless_it_is_allowed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object) -> list[dict[str, object]]:
        return [{"hostname": "x", "host": "127.0.0.1", "port": 9, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    targets = Targets(list, timeout=0.3)
    with pytest.raises(Rejected, match=r"is no public address; allow it by guard\.allow_private"):
        await targets.call("GET", url, {}, None)
    await targets.close()


@pytest.mark.parametrize(
    ("allow", "host", "address", "ok"),
    [
        (["shop.local"], "shop.local", "10.0.0.7", True),
        (["shop.local"], "shop.local", "169.254.169.254", False),
        (["10.0.0.0/8"], "any", "10.1.2.3", True),
        (["10.0.0.0/8"], "any", "172.16.0.1", False),
        (["169.254.0.0/16"], "any", "169.254.1.1", True),
        ([], "example.org", "93.184.216.34", True),
        ([], "example.org", "::ffff:127.0.0.1", False),
        ([], "example.org", "64:ff9b::10.0.0.1", False),  # as DNS64 answers for a name at 10.0.0.1
        (["10.0.0.0/8"], "any", "64:ff9b::10.0.0.1", True),
        ([], "example.org", "64:ff9b::93.184.216.34", True),
        ([], "example.org", "2002:7f00:1::", False),
        ([], "example.org", "::127.0.0.1", False),
        ([], "example.org", "fec0::1", False),
        ([], "example.org", "2606:2800:220:1::1", True),
        (["shop.local"], "shop.local", "64:ff9b::169.254.169.254", False),
        (["shop.local"], "shop.local", "fd00:ec2::254", False),
        (["shop.local"], "shop.local", "100.100.100.200", False),
        ([], "example.org", "168.63.129.16", False),
        (["168.63.129.16/32"], "any", "168.63.129.16", True),
        (["shop.local"], "shop.local", "fd00::7", True),
    ],
)
def test_who_may_be_called(allow: list[str], host: str, address: str, ok: bool) -> None:
    try:
        Allowed(lambda: allow).check(host, address)
    except Refused:
        assert not ok
    else:
        assert ok


def test_the_kill_switch_is_on_when_nobody_can_tell(tmp_path: Path) -> None:
    assert not KillSwitch(tmp_path)()
    (tmp_path / "killswitch").touch()
    assert KillSwitch(tmp_path)()
    assert KillSwitch(tmp_path / "killswitch")(), "not a folder: nobody can tell"


def test_the_kill_switch_is_on_although_the_disk_takes_nothing(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "gone")
    assert not switch()
    switch.set(True)
    assert switch()
    (tmp_path / "gone").mkdir()
    assert switch()
    switch.set(False)
    assert not switch()
