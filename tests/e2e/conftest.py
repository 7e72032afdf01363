"""Short names for what the end-to-end tests start; see tests/conftest.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from sidecar.demo.peers import Peer, Stack

Start = Callable[..., Awaitable[Peer]]


@pytest.fixture
def prometheus(stack: Stack) -> Start:
    """`await prometheus(config, rules="", *flags, data=None, port=None)`."""
    return stack.prometheus


@pytest.fixture
def alertmanager(stack: Stack) -> Start:
    """`await alertmanager(config=NO_RECEIVER, *flags, port=None)`."""
    return stack.alertmanager


@pytest.fixture
def node_exporter(stack: Stack) -> Start:
    """`await node_exporter(*flags, port=None)`."""
    return stack.node_exporter


@pytest.fixture
def promantis(stack: Stack) -> Start:
    """`await promantis(config="", *flags, port=None)`; its state is in `peer.folder / "state"`."""
    return stack.promantis
