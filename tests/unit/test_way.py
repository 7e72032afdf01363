"""Where alerts go, from urls alone."""

from __future__ import annotations

import pytest

from sidecar.commands.way import contradictions, place


@pytest.mark.parametrize("theirs", ["http://127.0.0.1:9093", "http://[::1]:9093/"])
async def test_this_machine_has_one_place_by_any_name(theirs: str) -> None:
    for ours in ("http://127.0.0.1:9093/", "http://[::1]:9093"):
        assert await contradictions("tee", "127.0.0.1:9909", [ours], [theirs, "http://[::1]:9909"]) == []


async def test_a_path_or_a_port_is_another_place() -> None:
    ours, me = "http://127.0.0.1:9093/a", "http://127.0.0.1:9909"
    for theirs in ("http://127.0.0.1:9093/b", "http://127.0.0.1:9094/a"):
        (words,) = await contradictions("tee", "127.0.0.1:9909", [ours], [theirs, me])
        assert f"does not send to {ours} itself" in words


async def test_a_name_that_nobody_knows_stands_for_itself() -> None:
    assert (await place("http://nobody.invalid:1/x"))[0] == {"nobody.invalid"}
