"""Fixtures of several unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit import lab as labs


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[labs.Lab]:
    """A cluster to act on."""
    async with labs.lab(tmp_path) as lab:
        yield lab
