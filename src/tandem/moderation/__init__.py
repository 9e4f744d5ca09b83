"""Moderation that can be justified: written policies, calibrated probabilities, three bands, and a log of decisions.

Nothing here deletes or changes an image. The names are imported on first use.
"""

from typing import TYPE_CHECKING

from tandem.lazy_names import lazy

if TYPE_CHECKING:
    from tandem.moderation.audit_log import AuditLog, verify_log
    from tandem.moderation.decisions import Decision
    from tandem.moderation.fit_file import Fit, read_fit, write_fit
    from tandem.moderation.fitting import fit_policy
    from tandem.moderation.moderator import Moderator
    from tandem.moderation.policy import Bands, Category, Policy
    from tandem.moderation.policy_files import PolicyFile, open_policy

__all__ = [
    "AuditLog",
    "Bands",
    "Category",
    "Decision",
    "Fit",
    "Moderator",
    "Policy",
    "PolicyFile",
    "fit_policy",
    "open_policy",
    "read_fit",
    "verify_log",
    "write_fit",
]

_HOMES = {
    "AuditLog": "tandem.moderation.audit_log",
    "Bands": "tandem.moderation.policy",
    "Category": "tandem.moderation.policy",
    "Decision": "tandem.moderation.decisions",
    "Fit": "tandem.moderation.fit_file",
    "Moderator": "tandem.moderation.moderator",
    "Policy": "tandem.moderation.policy",
    "PolicyFile": "tandem.moderation.policy_files",
    "fit_policy": "tandem.moderation.fitting",
    "open_policy": "tandem.moderation.policy_files",
    "read_fit": "tandem.moderation.fit_file",
    "verify_log": "tandem.moderation.audit_log",
    "write_fit": "tandem.moderation.fit_file",
}

__getattr__ = lazy(globals(), _HOMES)
