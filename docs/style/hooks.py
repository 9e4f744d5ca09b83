"""Hooks of MkDocs, so that the site is built from the Markdown that a forge shows.

Pages outside of docs/ (README, CONTRIBUTING, ...) become pages of the site, and links between the two follow them.
A link to a file that is no page (a recipe, say) copies the file into the site. Remarks behind a fence's language, which
tests/test_docs.py reads, are taken off.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# In the repository -> in the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "src/tandem/assets/tandem-mini/README.md": "model-card.md",
}
_INSIDE = {site: repository for repository, site in OUTSIDE.items()}
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_REMARK = re.compile(r"^```(\w+) [^\n]+$", re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)]*)?(\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for repository, site in OUTSIDE.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / repository)))
    pages = {file.src_uri: Path(file.abs_src_path or "") for file in files.documentation_pages()}
    for site, path in pages.items():
        for target in _targets(path.read_text(encoding="utf-8"), site):
            copied = _in_site(target)
            if (
                not target.startswith("docs/")
                and (ROOT / target).is_file()
                and files.get_file_from_path(copied) is None
            ):
                files.append(File.generated(config, copied, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    site = page.file.src_uri
    text, end = "", 0
    for fence in _FENCED.finditer(markdown):
        text += _relinked(markdown[end : fence.start()], site) + _REMARK.sub(r"```\1", fence[0], count=1)
        end = fence.end()
    return text + _relinked(markdown[end:], site)


def _relinked(text: str, site: str) -> str:
    def to_site(link: re.Match[str]) -> str:
        if ":" in link[2]:
            return link[0]
        target = posixpath.relpath(_in_site(_in_repository(link[2], site)), posixpath.dirname(site) or ".")
        return f"{link[1]}{target}{link[3] or ''}{link[4]}"

    return _LINK.sub(to_site, text)


def _targets(text: str, site: str) -> list[str]:
    """What a page links to, as paths in the repository."""
    return [_in_repository(link[2], site) for link in _LINK.finditer(_FENCED.sub("", text)) if ":" not in link[2]]


def _in_repository(link: str, site: str) -> str:
    """A link as a page writes it: `benchmarks.md`, in the site's `search.md` -> `docs/benchmarks.md`."""
    page = _INSIDE.get(site, f"docs/{site}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _in_site(repository: str) -> str:
    if repository in OUTSIDE:
        return OUTSIDE[repository]
    return repository.removeprefix("docs/") if repository.startswith("docs/") else f"files/{repository}"
