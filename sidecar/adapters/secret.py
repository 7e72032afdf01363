"""Secrets and certificates in files: read again when they change, since what rotates them tells nobody."""

from __future__ import annotations

import logging
import ssl
import tempfile
from pathlib import Path

from sidecar.adapters.http_config import TlsConfig
from sidecar.types import ConfigError

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

_read: dict[str, tuple[Stamp, str]] = {}


def secret(value: str | None, path: str | None) -> str:
    """A secret, from its file when it names one; read again only when the file changed."""
    if path is None:
        return value or ""
    try:
        stamp = _stamp(path)
        known = _read.get(path)
        if known is None or known[0] != stamp:
            known = _read[path] = stamp, Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(path, f"secret cannot be read: {error.strerror}") from None
    return known[1]


class Tls:
    """The SSL context of a `tls_config`, made anew when one of its files changed."""

    def __init__(self, config: TlsConfig | None) -> None:
        """ConfigError when a file cannot be used."""
        self._config = config
        self._stamps = self._now()
        self._context = _context(config) if config else True

    def context(self) -> ssl.SSLContext | bool:
        """For aiohttp. A pair that is only half written does not take the place of one that works."""
        stamps = self._now()
        if self._config is not None and stamps != self._stamps:
            self._stamps = stamps
            try:
                self._context = _context(self._config)
            except ConfigError as error:
                log.warning("certificates changed but stay as they were: %s", error)
        return self._context

    def _now(self) -> tuple[Stamp | None, ...]:
        def stamp(path: str) -> Stamp | None:
            try:
                return _stamp(path)
            except OSError:
                return None

        return tuple(stamp(path) for path in _files(self._config)) if self._config else ()


def _stamp(path: str) -> Stamp:
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _files(tls: TlsConfig) -> list[str]:
    return [path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path]


def _context(tls: TlsConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file, cadata=tls.ca)
        if tls.cert_file and tls.key_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        elif tls.cert or tls.cert_file:
            _load_in_place(context, tls)
    except (OSError, ValueError) as error:  # ssl's own errors are OSErrors too
        words = getattr(error, "strerror", None) or str(error)
        files = ", ".join(_files(tls))
        raise ConfigError("tls_config", f"cannot be used: {files}: {words}".replace(": :", ":")) from None
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.min_version:
        context.minimum_version = _VERSIONS[tls.min_version]
    if tls.max_version:
        context.maximum_version = _VERSIONS[tls.max_version]
    return context


def _load_in_place(context: ssl.SSLContext, tls: TlsConfig) -> None:
    """Python loads a client certificate from files only: one that nobody else may read, for a moment."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        for value, path in ((tls.cert, tls.cert_file), (tls.key, tls.key_file)):
            file.write((value or Path(path or "").read_text(encoding="utf-8")) + "\n")
        file.flush()
        context.load_cert_chain(file.name)
