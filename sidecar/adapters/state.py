"""What was learned, on disk: one file per step, written whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np

from sidecar.adapters import memory
from sidecar.signals.models import Array
from sidecar.types import ConfigError

log = logging.getLogger(__name__)
MAGIC = b"promantis state 1\n"
_KINDS = (np.float16, np.float32, np.float64, np.int8, np.int16, np.int64, np.uint8, np.bool_)
TYPES = {np.dtype(kind).str[1:]: kind for kind in _KINDS}


class Slot(NamedTuple):
    """A folder that no other process uses while the lock is open."""

    folder: Path
    lock: BinaryIO


def first_free(folder: Path, most: int = 9) -> Slot:
    """This folder, or where another process has it `<folder>-2` and so on. ConfigError when none is to be had."""
    try:
        for n in range(1, most + 1):
            mine = folder if n == 1 else folder.with_name(f"{folder.name}-{n}")
            mine.mkdir(parents=True, exist_ok=True)
            lock = (mine / ".lock").open("wb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
            else:
                return Slot(mine, lock)
    except OSError as error:
        raise ConfigError("storage.path", f"{folder} cannot be locked: {error.strerror}") from None
    raise ConfigError("storage.path", f"{folder} and {most - 1} more beside it are in use")


class StateFiles:
    """Files `<folder>/<step>.state`: magic, header, arrays one after the other, checksum of it all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged = 0
        """Files set aside."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                "storage.path",
                f"{folder} is not writable: {error.strerror}; another folder by --storage.path",
            ) from None

    def save(self, step: float, dump: Iterator[tuple[str, Any]]) -> None:
        """Write beside the old file and swap; a crash at any instant leaves one whole file."""
        path = self._path(step)
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            out = _Writer(file)
            out.write(MAGIC)
            for name, item in dump:
                if isinstance(item, np.ndarray):
                    kind, shape, data = (
                        item.dtype.str[1:],
                        list(item.shape),
                        np.ascontiguousarray(item).reshape(-1).view(np.uint8).data,
                    )
                else:
                    kind, shape, data = "json", [], memoryview(msgspec.json.encode(item))
                meta = msgspec.json.encode([name, kind, shape, data.nbytes])
                out.write(len(meta).to_bytes(4, "big") + meta)
                out.write(data)
            out.write(b"\0\0\0\0")
            file.write(out.checksum.to_bytes(4, "big"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        memory.give_back()  # no tick goes on now; of a lesson just learned much is left

    def load(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Array]]]:
        """Header and arrays of every readable file; a damaged one is set aside."""
        for path in sorted(self._folder.glob("*.state")):
            try:
                yield _read(path)
            except (OSError, ValueError, KeyError, msgspec.DecodeError) as error:
                self._set_aside(path, str(error))

    def set_aside(self, step: float, why: str) -> None:
        """Keep a file that does not fit for whoever wants to look, out of the way."""
        self._set_aside(self._path(step), why)

    def _path(self, step: float) -> Path:
        return self._folder / f"{step:g}.state"

    def _set_aside(self, path: Path, why: str) -> None:
        self.damaged += 1
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        log.warning("state file %s set aside: %s", path, why)


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.checksum = 0

    def write(self, data: bytes | memoryview) -> None:
        self.checksum = zlib.crc32(data, self.checksum)
        self._file.write(data)


def _read(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
    whole = path.read_bytes()
    if not whole.startswith(MAGIC):
        raise ValueError("not a state file of this version")
    if len(whole) < len(MAGIC) + 8 or zlib.crc32(memoryview(whole)[:-4]) != int.from_bytes(whole[-4:], "big"):
        raise ValueError("checksum does not match")
    at = len(MAGIC)
    header: Mapping[str, Any] = {}
    arrays: dict[str, Array] = {}
    while size := int.from_bytes(whole[at : at + 4], "big"):
        name, kind, shape, length = msgspec.json.decode(whole[at + 4 : at + 4 + size])
        at += 4 + size
        data = memoryview(whole)[at : at + length]
        if kind == "json":
            header = msgspec.json.decode(data)
        else:
            arrays[name] = np.frombuffer(data, TYPES[kind]).reshape(shape)
        at += length
    if "step" not in header:
        raise ValueError("no header in it")
    return header, arrays
