"""`tandem score`: how well images fit their prompts, their references, or the images they were made from."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, non_negative, positive
from tandem.cli.exit_codes import exit_code
from tandem.cli.options.images import add_images, find_images
from tandem.cli.options.model import add_model, load_model
from tandem.cli.targets import check_no_input
from tandem.defaults import LongTexts
from tandem.errors import TandemError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.clip_score.formulas import Metric
    from tandem.clip_score.rows import ScoreRow
    from tandem.errors import ImageError

PROMPTS_FROM = ("sidecars", "names")


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Score images against their prompts: CLIPScore as 2.5 max(cos, 0) (Hessel et al. 2021) and beside it 100 "
        "max(cos, 0) (torchmetrics); with references RefCLIPScore; with source images the similarity of both, and with "
        "source prompts whether the image changed as the text did. Prompts come from a table (CSV, TSV, JSONL), from "
        ".txt files beside the images, from file names, or one holds for all. The mean has a 95% interval.",
        "tandem score prompts.csv --out scores.csv --sheet sheet.png",
        "tandem score generated/ --prompts-from names",
        'tandem score generated/ --prompt "a red ball on white"',
        'tandem score captions.jsonl --prefix "A photo depicts"',
        'tandem score edited/ --source-images originals/ --prompt "a dog" --source-prompt "a cat"',
    )
    add_images(parser, "+")
    parser.missing["PHOTO"] = (
        "no images: say what to score: a table (prompts.csv), or images with --prompt or --prompts-from"
    )
    prompts = parser.add_argument_group("prompts")
    prompts.add_argument("--prompt", metavar="TEXT", help="one prompt for all images")
    prompts.add_argument(
        "--prompts-from",
        choices=PROMPTS_FROM,
        metavar="WHERE",
        help="sidecars: cat.txt beside cat.png; names: the words of each file name (default: a table's own column)",
    )
    prompts.add_argument("--source-images", metavar="DIR", help="what the images were made from, under the same names")
    prompts.add_argument("--source-prompt", metavar="TEXT", help="one text for all source images")
    prompts.add_argument(
        "--columns",
        metavar="F=C,...",
        help="of a table: which column holds which field (image, prompt, references, source_image, source_prompt), "
        "such as image=file,prompt=text; usual names are found without it",
    )
    prompts.add_argument(
        "--prefix",
        default="",
        metavar="TEXT",
        help='words before every text; "A photo depicts" for captions as in the paper (default: none)',
    )
    prompts.add_argument(
        "--long",
        choices=get_args(LongTexts),
        default="truncate",
        help="what to do with texts that are too long for the model: fail, cut them (they are listed), or split them "
        "and average (%(default)s)",
    )
    parser.add_argument("--out", metavar="F", help="write every row to scores.csv, scores.jsonl or scores.parquet")
    parser.add_argument("--sheet", metavar="F", help="draw the lowest and highest (.png, .pdf, .svg, .webp, .html)")
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="how many to show at each end (%(default)s)"
    )
    parser.add_argument("--seed", type=non_negative, default=0, metavar="N", help="of the resamples (%(default)s)")
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import row_files
    from tandem.cli.score_view import ScoreReport
    from tandem.clip_score import sheet
    from tandem.clip_score.scoring import iter_scores

    skipped: list[ImageError] = []
    target = user_path(arguments.out) if arguments.out else None
    drawing = user_path(arguments.sheet) if arguments.sheet else None
    if target:
        row_files.check_target(target)
    if drawing:
        sheet.check_sheet(drawing)
    for written in filter(None, (target, drawing)):
        check_no_input(written, arguments.images)
    rows, metrics, total = _rows(arguments, skipped)
    model = load_model(arguments)
    report = ScoreReport(model, metrics, arguments, target)
    with report, progress.counting("scoring", total) as advance:
        for part in iter_scores(model, rows, metrics, prefix=arguments.prefix, long=arguments.long):
            report.add(part)
            advance(len(part) + len(part.failures))
    skipped += [failure.error for failure in report.failures]
    if arguments.json:
        terminal.print_json(report.document(skipped))
    else:
        report.show()
    sys.stdout.flush()
    if target and report.rows_written:
        terminal.echo(f"wrote {target}")
    if drawing and report.count:
        report.draw(drawing)
        terminal.echo(f"drew {drawing}")
    report.echo_cut()
    terminal.echo_skipped(skipped, report.count + len(skipped))
    return exit_code(done=report.count, skipped=len(skipped))


def _rows(
    arguments: argparse.Namespace, skipped: "list[ImageError]"
) -> "tuple[Iterator[ScoreRow], tuple[Metric, ...], int | None]":
    """The rows to score, the metrics that they allow, and how many they are, where that is known."""
    from tandem.clip_score import sources

    if any(sources.is_table(each) for each in arguments.images):
        if len(arguments.images) > 1:
            raise TandemError("a table goes alone: put the images of all into one")
        for option in ("prompt", "prompts_from", "source_images", "source_prompt"):
            if getattr(arguments, option) is not None:
                raise TandemError(f"--{option.replace('_', '-')} goes with images: a table has its own columns")
        table = sources.Table(arguments.images[0], _columns(arguments.columns))
        drawing = user_path(arguments.sheet) if arguments.sheet else None
        if drawing and drawing.exists():  # the rows are read twice only where something could be lost
            again = sources.Table(arguments.images[0], _columns(arguments.columns))
            check_no_input(drawing, (image for row in again.rows() for image in (row.image, row.source_image)))
        return table.rows(), table.metrics, None
    if arguments.columns:
        raise TandemError("--columns goes with a table (.csv, .tsv, .jsonl)")
    return _rows_of_files(arguments, skipped)


def _rows_of_files(
    arguments: argparse.Namespace, skipped: "list[ImageError]"
) -> "tuple[Iterator[ScoreRow], tuple[Metric, ...], int | None]":
    from tandem.clip_score import sources

    if arguments.prompt is not None and arguments.prompts_from:
        raise TandemError("--prompt and --prompts-from cannot go together")
    if arguments.prompt is not None and not arguments.prompt.strip():
        raise TandemError("--prompt: expected a text, got nothing")
    if arguments.source_prompt is not None and not arguments.source_images:
        raise TandemError("--source-prompt goes with --source-images DIR")
    if arguments.source_images is not None and not Path(user_path(arguments.source_images)).is_dir():
        raise TandemError(f"--source-images {arguments.source_images}: expected a folder")
    found = find_images(arguments.images, arguments.exclude)
    skipped += found.skipped
    if arguments.sheet:
        check_no_input(user_path(arguments.sheet), found.images)
    how = arguments.prompts_from
    if arguments.prompt is None and how is None and not arguments.source_images:
        raise TandemError(
            "no prompts: give a table (prompts.csv), --prompts-from sidecars or names, or one --prompt for all images"
        )
    if arguments.sheet and arguments.source_images:
        beside = find_images([str(user_path(arguments.source_images))], [])
        check_no_input(user_path(arguments.sheet), beside.images)
    one = arguments.prompt
    prompt = {"sidecars": sources.prompt_beside, "names": sources.prompt_in_name}.get(how or "")
    if one is not None:
        prompt = lambda image: one  # noqa: E731
    source = None
    if arguments.source_images:
        if len(arguments.images) != 1 or not Path(user_path(arguments.images[0], strict=False)).is_dir():
            raise TandemError("--source-images goes with one folder of images, whose names it has, too")
        source = sources.source_in(str(user_path(arguments.source_images)), str(user_path(arguments.images[0])))
    fields = {"prompt": prompt, "source_image": source, "source_prompt": arguments.source_prompt}
    metrics = sources.possible({name for name, value in fields.items() if value is not None})
    rows = sources.file_rows(
        found.images,
        prompt=prompt,
        source_image=source,
        source_prompt=arguments.source_prompt,
        takes_any=how is None and source is None,
    )
    return rows, metrics, len(found.images)


def _columns(written: str | None) -> dict[str, str]:
    """`image=file,prompt=text` -> the columns by field."""
    columns = {}
    for part in filter(None, (written or "").split(",")):
        field, equals, column = part.partition("=")
        if not equals or not field.strip() or not column.strip():
            raise TandemError(f"--columns: expected image=file,prompt=text, got {part!r}")
        columns[field.strip()] = column.strip()
    return columns
