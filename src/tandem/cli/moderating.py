"""What `tandem moderate` and its verbs do. Knows moderation and terminals; the arguments are the command's."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.cli import moderation_view as view
from tandem.cli import progress, row_files, terminal
from tandem.cli.exit_codes import DONE, FLAGGED, exit_code
from tandem.cli.options.images import FoundImages, find_images
from tandem.cli.options.labelled import labelled_of, shows_of
from tandem.cli.options.model import describe_model, load_model, loading
from tandem.errors import DataError, ImageError, TandemError
from tandem.files import user_path
from tandem.moderation.decisions import BANDS, Decision, counts

if TYPE_CHECKING:
    from tandem.datasets.dataset import Dataset
    from tandem.evaluate.features import Features
    from tandem.model import Model
    from tandem.moderation.moderator import Moderator


# --- moderate --------------------------------------------------------------------------------------------------------


def moderate(arguments: argparse.Namespace) -> int:
    from tandem.moderation.audit_log import AuditLog
    from tandem.moderation.moderator import Moderator
    from tandem.moderation.policy_files import open_policy

    opened = open_policy(arguments.policy)
    target = user_path(arguments.out) if arguments.out else None
    if target:
        row_files.check_target(target)
    collections = [source for source in arguments.sources if is_collection(source)]
    if arguments.where and not collections:
        raise TandemError("--where goes with a collection: photos in files have no columns")
    found = FoundImages()
    if len(collections) < len(arguments.sources):
        found = find_images([each for each in arguments.sources if each not in collections], arguments.exclude)
    model = _model(arguments, collections)
    moderator = Moderator(opened, model, fit=_fit(arguments))
    _say_fit(moderator, arguments.fail_on)
    decisions: list[Decision] = []
    skipped = list(found.skipped)
    kept = bool(arguments.json)
    tally = counts([], opened.policy.categories)
    total = len(found.images) + sum(_count(source, arguments.where) for source in collections)
    with ExitStack() as stack:
        log = stack.enter_context(AuditLog(arguments.log)) if arguments.log else None
        rows = stack.enter_context(row_files.RowFile(target, view.FILE_COLUMNS)) if target else None
        shown = not (arguments.json or rows)
        show = view.Rows(opened.policy, total) if shown else None
        if show is not None:
            stack.callback(show.finish)  # after Ctrl-C, too
        wanted = show is None or show.sorts or not progress.beside_rows()
        advance = stack.enter_context(progress.counting("moderating", total, wanted=wanted))
        for part in _parts(moderator, found, collections, arguments, skipped, digests=log is not None):
            if log is not None:
                log.append(moderator.logged(each) for each in part)
            if rows is not None:
                rows.add(row for each in part for row in view.rows_of(each))
            if show is not None:
                show.add(part)
            if kept:
                decisions += part
            for name, bands in counts(part, opened.policy.categories).items():
                for band, count in bands.items():
                    tally[name][band] += count
            advance(len(part))
    done = sum(tally[""].values())
    if arguments.json:
        terminal.print_json(
            {
                **moderator.about(),
                "counts": {"all": tally.pop(""), "categories": tally},
                "results": [each.as_dict() for each in decisions],
                "failures": [error.as_dict() for error in skipped],
                **({} if log is None else {"log": {"lines": log.end.lines, "digest": log.end.sha256}}),
            }
        )
        tally[""] = {band: sum(each.band == band for each in decisions) for band in BANDS}
    sys.stdout.flush()
    if not arguments.json:
        view.show_counts(tally)
    if not done and not skipped:
        terminal.echo("there are no photos to moderate" + (f" where {arguments.where}" if arguments.where else ""))
    if target:
        terminal.echo(f"wrote {target}")
    if log is not None:
        terminal.echo(f"logged to {arguments.log}: {log.end.lines:,} lines; to tell later if its end is cut off, keep")
        terminal.echo(f"its digest: {log.end.sha256}")
    terminal.echo_skipped(skipped, done + len(skipped))
    worst = BANDS[BANDS.index(arguments.fail_on) :] if arguments.fail_on else ()
    if any(tally[""][band] for band in worst):
        return FLAGGED
    return exit_code(done=done, skipped=len(skipped))


def is_collection(source: str) -> bool:
    """Whether a source is a collection: anything else is photos."""
    from tandem.datasets.collection import recognises

    return source != "-" and not source.startswith(("http://", "https://")) and recognises(source)


def _model(arguments: argparse.Namespace, collections: Sequence[str]) -> "Model":
    """The model that was named, else that of the collection, else the one that ships."""
    if arguments.model is not None or not collections:
        return load_model(arguments)
    from tandem.search.collection import open_collection

    with open_collection(collections[0], must_exist=True, **loading(arguments)) as photos:
        with progress.waiting("loading the model"):
            model = photos.model
        describe_model(model)
        return model


def _count(source: str, where: str | None) -> int:
    from tandem.search.stores import backends

    with closing(backends.open_store(source)) as store:
        return store.count(where)


def _fit(arguments: argparse.Namespace) -> Path | bool:
    return False if arguments.no_fit else user_path(arguments.fit) if arguments.fit else True


def _say_fit(moderator: "Moderator", fail_on: str | None) -> None:
    """What is not measured is said before anything is shown, and nothing waits for a band that cannot come."""
    fitted = {} if moderator.fit is None else moderator.fit.categories
    without = [name for name in moderator.policy.categories if name not in fitted]
    if without and fail_on:
        raise TandemError(
            f"--fail-on {fail_on}: not fitted: {', '.join(without)}: no photo would ever be in that band; "
            "fit it (tandem moderate fit)"
        )
    if without:
        terminal.echo(
            f"not fitted: {', '.join(without)}; no probability and no band: a higher score shows it more "
            "(see tandem moderate fit)"
        )
    for name, each in fitted.items():
        if each.cannot_tell:
            terminal.echo(f"{name}: cannot tell: {each.cannot_tell}")


def _parts(
    moderator: "Moderator",
    found: FoundImages,
    collections: Sequence[str],
    arguments: argparse.Namespace,
    skipped: list[ImageError],
    *,
    digests: bool,
) -> Iterator[list[Decision]]:
    """The decisions on collections, then on images; what cannot be read goes to `skipped`."""
    from tandem.search.stores import backends

    for source in collections:
        with closing(backends.open_store(source)) as store:
            yield from moderator.iter_store(store, where=arguments.where)
    for batch in moderator.iter_moderate(found.images, digests=digests):
        skipped += [each.result for each in batch if isinstance(each.result, ImageError)]
        yield [each.result for each in batch if isinstance(each.result, Decision)]


# --- fit -------------------------------------------------------------------------------------------------------------


def fit(arguments: argparse.Namespace) -> int:
    from tandem.moderation.fit_file import check_replaced, fit_path, write_fit
    from tandem.moderation.fitting import fit_policy
    from tandem.moderation.policy_files import open_policy

    opened = open_policy(arguments.policy)
    shows = shows_of(arguments)
    target = user_path(arguments.to) if arguments.to else fit_path(opened)
    check_replaced(target)
    dataset = labelled_of(arguments)
    further = None
    if arguments.corrections:
        from tandem.datasets.opening import open_dataset

        further = open_dataset(arguments.corrections)
    model = _model(arguments, [arguments.labelled] if dataset.stored is not None else [])
    labelled = _embedded(model, dataset)
    corrections = None if further is None else _embedded(model, further)
    with progress.waiting("fitting"):
        fitted = fit_policy(
            model,
            opened,
            labelled,
            block_precision=arguments.block_precision,
            review_recall=arguments.review_recall,
            shows=shows,
            corrections=corrections,
            seed=arguments.seed,
        )
    write_fit(fitted, target)
    if arguments.json:
        terminal.print_json({"file": str(target), **fitted.as_dict()})
    else:
        view.show_fit(fitted, target)
    return exit_code(done=len(labelled), skipped=len(dataset) - len(labelled))


def _embedded(model: "Model", dataset: "Dataset") -> "Features":
    from tandem.evaluate.features import embed_dataset

    return embed_dataset(model, dataset, on_error="skip", progress=False if terminal.is_quiet() else None)


# --- logs ------------------------------------------------------------------------------------------------------------


def report(arguments: argparse.Namespace) -> int:
    from tandem.moderation import log_report
    from tandem.moderation.audit_log import read_entries, verify_log

    log = arguments.log
    verified = verify_log(log)
    dataset = labelled_of(arguments) if arguments.labelled else None
    reports = log_report.report(read_entries(log), dataset, shows=shows_of(arguments))
    if not reports:
        raise DataError(f"{log}: there are no decisions in the log")
    if arguments.json:
        terminal.print_json(
            {"log": os.fspath(log), "decisions": verified.decisions, "reports": [each.as_dict() for each in reports]}
        )
    else:
        view.show_reports(reports)
    for note in verified.notes:
        terminal.echo(note)
    return DONE


def verify(arguments: argparse.Namespace) -> int:
    from tandem.moderation.audit_log import verify_log

    log = arguments.log
    found = verify_log(log, digest=arguments.digest)
    if arguments.json:
        terminal.print_json({"log": os.fspath(log), **found.as_dict()})
        return DONE
    terminal.print_result(f"the chain holds: {found.end.lines:,} lines, {found.decisions:,} decisions")
    terminal.print_result(f"digest: {found.end.sha256}")
    if found.torn:
        terminal.echo(f"{terminal.count_of(found.torn, 'line')} left unfinished by a kill, and marked")
    if found.unfinished_bytes:
        terminal.echo(f"the last {found.unfinished_bytes:,} bytes are an unfinished line; the next writer marks it")
    for note in found.notes:
        terminal.echo(note)
    return DONE
