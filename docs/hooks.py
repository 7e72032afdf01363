"""For mkdocs: files of the repository that pages link to (`../deploy/compose.yml`) become part of the site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add each file that is linked to, under `files/`."""
    for page in list(files.documentation_pages()):
        for target, _ in _LINK.findall(page.content_string):
            path = _outside(page, target)
            if path is not None and files.get_file_from_path(f"files/{path}") is None:
                files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point the links there."""

    def one(found: re.Match[str]) -> str:
        path = _outside(page.file, found[1])
        if path is None:
            return found[0]
        return f"]({os.path.relpath(f'files/{path}', Path(page.file.src_uri).parent)})"

    return _LINK.sub(one, markdown)


def _outside(file: File, target: str) -> Path | None:
    """The file in the repository that a link leads to, None when it is one of the pages."""
    whole = Path(os.path.normpath(ROOT / "docs" / Path(file.src_uri).parent / target))
    if whole.is_relative_to(ROOT / "docs") or not whole.is_file() or whole.suffix == ".md":
        return None
    return whole.relative_to(ROOT)
