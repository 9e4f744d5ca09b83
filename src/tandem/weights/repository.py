"""One repository of Hugging Face's hub, through huggingface_hub: its files, from the cache where they are current.

HF_ENDPOINT, HF_HUB_OFFLINE and the cache's place are read when a file is asked for, not when the library was imported.
Knows names of files and what may go wrong; what a model is made of is `hub`'s.
"""

import os
import time
from pathlib import Path

from tandem.errors import HubError
from tandem.tokenizer.reading import TOKENIZER_FILES
from tandem.tokenizer.sentencepiece_model import SENTENCEPIECE_FILES
from tandem.weights import unlisted_families
from tandem.weights.published import hub_cache_folder, known_name, near_names

_ATTEMPTS = 2
_TIMEOUT_S = 10.0
_TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its variables


def is_offline() -> bool:
    """Whether the user forbids the network, by the variables that huggingface_hub reads."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def fetch_tokenizer(repository: str) -> Path:
    """A local folder with the tokenizer of another repository. Raises `HubError` in one line, with the bare reason."""
    files = Repository(repository, None, offline=is_offline())
    files.is_model = False
    if not files.offline:
        files.check_reachable()
    if not files.tokenizer():
        if files.unreachable:
            raise HubError(f"{files.endpoint or 'huggingface.co'} cannot be reached ({files.unreachable})")
        raise HubError("HF_HUB_OFFLINE is set" if files.offline else f"{repository} on the hub has no tokenizer files")
    found = files.first(TOKENIZER_FILES)
    assert found is not None
    return found.parent


class Repository:
    """Files of one repository, all of one commit."""

    def __init__(self, repository: str, revision: str | None, *, offline: bool, missing: str = "") -> None:
        """`missing` is what messages of one that is not there begin with: where else it was looked for."""
        self.repository, self.revision, self.offline, self.missing = repository, revision, offline, missing
        self.endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        self.unreachable = ""  # why the network was given up
        self.is_model = True  # names of models are no hint at a tokenizer's

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    def check_reachable(self) -> None:
        """Ask once whether the hub is there; if not, only the cache is looked at.

        huggingface_hub would retry for 20 s for every file that is not cached, those that do not exist included.
        """
        from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

        # The library reads the environment when it is first imported; ours is read at each call, so the value is set.
        constants.HF_HUB_OFFLINE = False  # only called when online
        for attempt in range(_ATTEMPTS):
            try:
                url = hf_hub_url(self.repository, "config.json", revision=self.revision, endpoint=self.endpoint)
                get_hf_file_metadata(url, timeout=_TIMEOUT_S)
                return
            except (errors.HfHubHTTPError, errors.HFValidationError) as error:
                status = getattr(getattr(error, "response", None), "status_code", 0)
                if status < 500:
                    return  # an answer; `get` says what it means
                reason = f"the server says {status}"
            except Exception as error:
                reason = _reason(error)  # whichever HTTP library's transport error
            if attempt + 1 < _ATTEMPTS:
                time.sleep(0.5)
        self.unreachable, self.offline = reason, True

    def first(self, names: tuple[str, ...]) -> Path | None:
        """The first of these files that the repository has."""
        return next((path for name in names if (path := self.get(name))), None)

    def get(self, name: str) -> Path | None:
        """A file's local path; None where the repository has none, or where it cannot be asked."""
        from huggingface_hub import errors, hf_hub_download

        host = self.endpoint or "huggingface.co"
        try:
            path = Path(
                hf_hub_download(
                    self.repository,
                    name,
                    revision=self.revision,
                    endpoint=self.endpoint,
                    cache_dir=hub_cache_folder(),
                    local_files_only=self.offline,
                )
            )
        except errors.LocalEntryNotFoundError as error:
            if not self.offline:
                # Every further file would wait for the same timeout; the cache may still have them all.
                self.unreachable = _reason(error.__cause__ or error)
                self.offline = True
            return None
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError:
            raise HubError(
                f"{self.repository}: gated: accept its conditions at {host}/{self.repository} and log in with "
                "`hf auth login` (or set HF_TOKEN)"
            ) from None
        except errors.RepositoryNotFoundError:
            raise HubError(
                f"{self.repository}: {self.missing}not found on {host}: no such model, or a private one (log in with "
                f"`hf auth login`){self.near()}"
            ) from None
        except errors.RevisionNotFoundError:
            raise HubError(f"{self}: {self.repository} has no revision {self.revision!r} on {host}") from None
        except errors.HFValidationError as error:
            raise HubError(f"{self.repository}: not a valid hub name: {_reason(error)}") from None
        except errors.OfflineModeIsEnabled:
            self.offline = True
            return None
        except Exception as error:
            # Transport errors are whichever HTTP library's this version of huggingface_hub is built on.
            raise HubError(f"{self}: {name} cannot be downloaded from {host}: {_reason(error)}") from None
        root = path.parents[name.count("/")]
        if root.parent.name == "snapshots":
            self.revision = root.name  # the others come from the same commit
        return path

    def tokenizer(self) -> bool:
        """Get the files of its tokenizer, of whatever kind; False where there is none."""
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            self.get(name)
        if self.get("tokenizer.json"):
            return True
        if self.get("vocab.json"):
            return self.get("merges.txt") is not None
        return self.first((*SENTENCEPIECE_FILES, "vocab.txt")) is not None

    def near(self) -> str:
        """A hint for a name that may be a known one mistyped."""
        if not self.is_model:
            return ""
        if says := unlisted_families.answer(self.repository):
            return f"; {says}"
        near = [] if known_name(self.repository) else near_names(self.repository, 2, cutoff=0.75)
        return f"; near: {', '.join(near)}" if near else ""

    def lacks(self, what: str) -> HubError:
        """The error for a file that is not there, with the reason that is known for it."""
        if self.unreachable:
            return HubError(
                f"{self.repository}: {self.missing}{self.endpoint or 'huggingface.co'} cannot be reached "
                f"({self.unreachable}), and {hub_cache_folder()} does not hold {what}; check the network or "
                f"HF_ENDPOINT{self.near()}"
            )
        if self.offline:
            return HubError(
                f"{self.repository}: {self.missing}HF_HUB_OFFLINE is set, and {hub_cache_folder()} does not hold "
                f"{what}; unset it to download{self.near()}"
            )
        return HubError(f"{self}: the repository does not hold {what}; Tandem reads CLIP models only")


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
