"""What a model gets wrong: seeded scenes, corruptions and word lists, each with its chance level and its limits.

`tandem.audit.audit(model)` measures, and returns a report that writes itself as JSON, HTML and Markdown.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tandem.audit.report import AuditReport
    from tandem.audit.running import audit

__all__ = ["AuditReport", "audit"]

_HOMES = {"AuditReport": "tandem.audit.report", "audit": "tandem.audit.running"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tandem.audit' has no attribute {name!r}; its names are {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
