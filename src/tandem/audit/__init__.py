"""What a model gets wrong: seeded scenes, corruptions and word lists, each with its chance level and its limits.

`tandem.audit.audit(model)` measures, and returns a report that writes itself as JSON, HTML and Markdown.
"""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

if TYPE_CHECKING:
    from tandem.audit.report import AuditReport
    from tandem.audit.running import audit

__all__ = ["AuditReport", "audit"]

_HOMES = {"AuditReport": "tandem.audit.report", "audit": "tandem.audit.running"}

__getattr__ = lazy(globals(), _HOMES)
