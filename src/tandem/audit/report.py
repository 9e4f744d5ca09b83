"""An audit in a folder: audit.json, audit.html with images, audit.md."""

from dataclasses import dataclass
from pathlib import Path

from tandem.audit.pages import html_page, markdown_page
from tandem.audit.result import AuditResult
from tandem.files import atomic_folder, folder_to_write, json_text, write_text

JSON, HTML, MARKDOWN = "audit.json", "audit.html", "audit.md"


@dataclass(frozen=True, eq=False)
class AuditReport(AuditResult):
    """All that an audit found; `save` writes it."""

    def save(self, folder: str | Path) -> Path:
        """Write JSON, HTML and Markdown, all or none; an earlier audit in the folder is replaced.

        Raises `DataError` where the folder holds anything else.
        """
        target = check_target(folder)
        with atomic_folder(target) as partial:
            write_text(partial / JSON, json_text(self.as_dict()) + "\n")
            write_text(partial / HTML, html_page(self))
            write_text(partial / MARKDOWN, markdown_page(self))
        return target


def check_target(folder: str | Path) -> Path:
    """The path of a folder that an audit may be written to: new, empty, or holding an audit. Raises `DataError`."""
    return folder_to_write(folder, (JSON, HTML, MARKDOWN), "an audit")
