"""A request to a target leaves once, and what nobody knows is said to be unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.adapters.targets import KillSwitch, Targets
from sidecar.demo.peers import free_port
from sidecar.types import Unavailable


@pytest.fixture
async def targets() -> AsyncIterator[Targets]:
    targets = Targets(timeout=0.3)
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


async def test_nobody_there(targets: Targets) -> None:
    with pytest.raises(Unavailable, match=r"^the target did not answer: Cannot connect to host 127\.0\.0\.1"):
        await targets.call("GET", f"http://127.0.0.1:{free_port()}/", {}, None)


def test_the_kill_switch_is_on_when_nobody_can_tell(tmp_path: Path) -> None:
    assert not KillSwitch(tmp_path)()
    (tmp_path / "killswitch").touch()
    assert KillSwitch(tmp_path)()
    assert KillSwitch(tmp_path / "killswitch")(), "not a folder: nobody can tell"
