"""Hook of mkdocs.yml: what pages link to outside of docs/ becomes part of the site.

Pages in docs/ link as GitHub reads them: `../recipes/README.md`. The site has such a file, and what that one
links to in turn, under source/. A folder has no page of its own; its link is its text alone.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS, OUTSIDE = "docs/", "source/"
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ that some page leads to."""
    waiting = [in_repository(file.src_uri) for file in files.documentation_pages()]
    known = set(waiting)
    while waiting:
        for target in set(targets(waiting.pop())) - known:
            known.add(target)
            if not target.startswith(DOCS) and (ROOT / target).is_file():
                files.append(File.generated(config, in_site(target), abs_src_path=str(ROOT / target)))
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into those of the site."""
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match) -> str:
        text, path, anchor = link.groups()
        target = resolved(in_repository(page.file.src_uri), path)
        if not (ROOT / target).exists():
            return link.group()
        if (ROOT / target).is_dir():
            return text
        return f"[{text}]({posixpath.relpath(in_site(target), here or '.')}{anchor or ''})"

    return LINK.sub(moved, markdown)


def targets(source: str) -> Iterator[str]:
    """Paths in the repository that a page of it links to."""
    if source.endswith(".md"):
        text = (ROOT / source).read_text(encoding="utf-8")
        yield from (resolved(source, path) for _, path, _ in LINK.findall(text))


def resolved(source: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path))


def in_repository(uri: str) -> str:
    return uri.removeprefix(OUTSIDE) if uri.startswith(OUTSIDE) else DOCS + uri


def in_site(path: str) -> str:
    return path.removeprefix(DOCS) if path.startswith(DOCS) else OUTSIDE + path
