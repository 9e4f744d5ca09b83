"""The documentation as a site and on a forge: every page is in the menu, every link leads somewhere, nothing is loaded
from other hosts.
"""

import ast
import functools
import importlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import tandem

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "src/tandem/assets/tandem-mini/README.md"]
PAGES = [*(ROOT / name for name in OUTSIDE), *sorted(DOCS.rglob("*.md"))]
SOURCE = ROOT / "src" / "tandem"
FOR_DEVELOPERS = [ROOT / "CONTRIBUTING.md", DOCS / "design.md", *sorted((DOCS / "how-to").glob("*.md"))]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
MENU = re.compile(r"^ +- [^\n:]+: (\S+\.md)$", re.MULTILINE)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Of its headings, as forges make them: lower case, without punctuation, `-` for a space."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere_on_a_forge(page: Path) -> None:
    for target, anchor in LINK.findall(prose(page)):
        found = page if not target else (page.parent / target).resolve()
        assert found.exists(), f"{name(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(found), f"{name(page)} links to {target}#{anchor}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lists_follow_an_empty_line(page: Path) -> None:
    """Forges take a list right below a paragraph; Python-Markdown, which the site uses, does not."""
    lines = prose(page).splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"([-*] |\d+\. )", line) and before.strip():
            assert re.match(r"([-*] |\d+\. | +\S)", before), f"{name(page)}: an empty line is missing above {line!r}"


@pytest.mark.parametrize("page", FOR_DEVELOPERS, ids=name)
def test_files_of_the_project_that_are_named_exist(page: Path) -> None:
    """In backticks; below src/tandem/, or one of its rooms, unless the path begins elsewhere. NAME stands for any."""
    rooms = [ROOT, SOURCE, *(each for each in SOURCE.rglob("*") if each.is_dir())]
    named = re.findall(r"`([\w./-]+(?:\.py|\.toml|/))`", prose(page))
    assert named
    missing = [path for path in named if "NAME" not in path and not any((room / path).exists() for room in rooms)]
    assert not missing, f"{name(page)} names {missing}"


def _tables() -> dict[str, list[list[str]]]:
    """The tables of docs/design.md: a room's name, "" for all of them, and the paths that each row names."""
    found = {}
    for section in re.split(r"^#+ ", (DOCS / "design.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
        lines = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        room = re.match(r"`(\w+)/`", section)
        if lines and (room or section.startswith("Layout")):
            found[room[1] if room else ""] = [re.findall(r"`([\w/.]+)`", line) for line in lines]
    return found


@pytest.mark.slow
def test_imports_go_up_the_tables_of_the_design() -> None:
    """A row of a table in docs/design.md imports from the rows above it, and from its own."""
    tables = _tables()
    assert len(tables) >= 6
    for room, rows in tables.items():
        prefix = f"tandem.{room}." if room else "tandem."
        starts = [[prefix + each.removesuffix(".py").rstrip("/").replace("/", ".") for each in row] for row in rows]
        for file in SOURCE.rglob("*.py"):
            own = _row("tandem." + file.relative_to(SOURCE).with_suffix("").as_posix().replace("/", "."), starts)
            for imported in _imports(file) if own is not None else ():
                other = _row(imported, starts)
                assert other is None or other <= own, f"{file.relative_to(SOURCE)} imports {imported}, from a row below"


@pytest.mark.parametrize("room", _tables())
def test_the_tables_of_the_design_name_every_module(room: str) -> None:
    """Once, by itself or by its folder."""
    named = [name for row in _tables()[room] for name in row]
    files = [file.relative_to(SOURCE / room).as_posix() for file in (SOURCE / room).rglob("*.py")]
    files = [file for file in files if file.rpartition("/")[2] not in ("__init__.py", "__main__.py")]
    places = {
        file: [name for name in named if file == name or (name[-1] == "/" and file.startswith(name))] for file in files
    }
    wrong = {file: names for file, names in places.items() if len(names) != 1}
    assert not wrong, f"docs/design.md, {room or 'Layout'}: named in no row, or in several: {wrong}"


def _row(dotted: str, starts: list[list[str]]) -> int | None:
    found = [i for i, row in enumerate(starts) for start in row if f"{dotted}.".startswith(f"{start}.")]
    return found[0] if found else None


@functools.cache
def _imports(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_the_menu_has_every_page_once() -> None:
    in_menu = MENU.findall((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    outside = ["index.md", "contributing.md", "changelog.md", "model-card.md"]
    assert sorted(in_menu) == sorted(outside + [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")])


@pytest.mark.slow
def test_the_python_reference_has_every_public_name() -> None:
    described = re.findall(r"^::: ([\w.]+)$", (DOCS / "python.md").read_text(encoding="utf-8"), re.MULTILINE)
    objects = []
    for dotted in described:
        module, _, attribute = dotted.rpartition(".")
        objects.append(getattr(importlib.import_module(module), attribute))
    # Errors and warnings are described with their module.
    missing = {
        public
        for public in tandem.__all__
        if public != "__version__"
        and (found := getattr(tandem, public)) not in objects
        and not (isinstance(found, type) and issubclass(found, tandem.TandemError | tandem.DamageWarning))
    }
    assert not missing, f"docs/python.md: {sorted(missing)}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    process = subprocess.run(
        command, check=False, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<main" in text
        loaded = re.findall(r"""<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=["'](https?:[^"']+)""", text)
        assert not loaded, f"{page.name} loads {loaded}"
