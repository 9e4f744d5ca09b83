"""The table of tests. Each has a line here and a module of the same name in `checks/` with `ABOUT` and `measure`."""

from importlib import import_module
from typing import cast

from tandem.audit.protocol import AuditTest

TESTS = (
    "counting",
    "binding",
    "position",
    "negation",
    "word_order",
    "typographic",
    "prompts",
    "corruptions",
    "resolution",
    "near_duplicates",
    "hubness",
    "subgroups",
)


def load_test(name: str) -> AuditTest:
    """The module of a test."""
    return cast(AuditTest, import_module(f"tandem.audit.checks.{name}"))
