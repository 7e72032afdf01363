"""Whether the way of alerts, as Prometheus goes it, is the one that `alerts.mode` wants."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence

import yarl

Place = tuple[frozenset[str], int, str]
"""Addresses of a host, port and path prefix: what two urls of one thing have in common."""


async def place(url: str) -> Place:
    """Where a url leads; a name that nobody knows stands for itself."""
    parts = yarl.URL(url)
    host, port = parts.host or "", parts.port or 0
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        hosts = {str(address[0]) for *_, address in found}
    except OSError:
        hosts = {host}
    if hosts & {"127.0.0.1", "::1"}:
        hosts |= {"127.0.0.1", "::1"}
    return frozenset(hosts), port, parts.path.strip("/")


def _same(one: Place, other: Place) -> bool:
    return bool(one[0] & other[0]) and one[1:] == other[1:]


async def contradictions(mode: str, listen: str, ours: Sequence[str], theirs: Sequence[str]) -> Sequence[str]:
    """What is wrong where Prometheus sends to `theirs`, while Promantis knows `ours` and listens at `listen`."""
    if not ours:
        return []
    port = int(listen.rpartition(":")[2])
    known = {url: await place(url) for url in dict.fromkeys((*ours, *theirs))}
    sent = [known[url] for url in theirs]
    me = [at for at in sent if at[1] == port and not any(_same(at, known[url]) for url in ours)]
    direct = [url for url in ours if any(_same(known[url], at) for at in sent)]
    return list(_words(mode, port, ours, direct, bool(me)))


def _words(mode: str, port: int, ours: Sequence[str], direct: Sequence[str], me: bool) -> Iterator[str]:
    if not me:
        lost = "no alert arrives" if mode == "inline" else "no alert is explained"
        yield (
            f"alerts.mode: Prometheus sends to nothing on port {port}, so {lost}:"
            " add Promantis to alerting.alertmanagers in prometheus.yml"
        )
    for url in ours:
        if mode == "inline" and url in direct:
            yield (
                f"alerts.mode: inline, but Prometheus sends to {url} itself too, so annotations come and go with"
                " each re-send: take it out of alerting.alertmanagers in prometheus.yml, or write mode: tee"
            )
        if mode == "tee" and url not in direct:
            yield (
                f"alerts.mode: tee, but Prometheus does not send to {url} itself, and neither does Promantis:"
                " add it to alerting.alertmanagers in prometheus.yml, or write mode: inline"
            )
