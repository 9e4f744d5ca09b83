"""`tandem condition`: prompts -> what an image generator takes of them, and which words were cut."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, non_negative
from tandem.cli.exit_codes import DONE
from tandem.cli.inputs import read_lines
from tandem.cli.options.model import add_engine
from tandem.cli.tables import Column, print_table
from tandem.cli.targets import check_new
from tandem.cli.words import texts_of
from tandem.conditioning.consumers import CONSUMERS
from tandem.errors import TandemError, did_you_mean
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.conditioning import Conditioner, Conditioning

_LONG = ("chunk", "truncate", "error")
DEFAULT = "states"


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Turn prompts into the states and pooled vectors that an image generator takes, and say which words were cut. "
        "(word:1.3) weighs a word, BREAK begins a new chunk of 75 tokens. When piped, each line is prompt, tokens, "
        "chunks, weights and cut words, separated by tabs.",
        'tandem condition "a (red:1.3) fox, at night"',
        'tandem condition "a red fox" --for sdxl --model ~/models/sdxl --negative blurry --out fox.safetensors',
        'tandem condition "a red fox" --for flux --model openai/clip-vit-large-patch14 --json',
        "tandem condition --prompts prompts.txt --for sd1 --tower clip_l=~/clip_l.safetensors --long truncate",
        'tandem condition "a <cat-toy> at night" --for sd1 --model ~/models/sd15 --embedding cat-toy.safetensors',
    )
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="a prompt")
    parser.add_argument("--prompts", metavar="F", help="a file of prompts, one per line (- for standard input)")
    parser.add_argument("--negative", metavar="S", help="the negative prompt of all")
    parser.add_argument(
        "--for",
        dest="consumer",
        type=_consumer,
        default=DEFAULT,
        metavar="C",
        help=f"who takes it: {', '.join(CONSUMERS)} (%(default)s: any CLIP's own text tower)",
    )
    parser.add_argument("--out", metavar="F", help="write states, pooled vectors and ids to F.safetensors")
    parser.add_argument("--plot", metavar="PNG", help="draw the words of prompts: weights, chunks, and what was cut")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files of --out and --plot")
    group = parser.add_argument_group("prompts")
    group.add_argument(
        "--clip-skip",
        type=non_negative,
        metavar="N",
        help="blocks left out at the end, for prompts; 1 is what web UIs call 2",
    )
    group.add_argument(
        "--long",
        choices=_LONG,
        default="chunk",
        help="what to do with prompts that are longer than a chunk: encode several, cut, or fail (%(default)s)",
    )
    group.add_argument("--plain", action="store_true", help="take parentheses and brackets as text")
    group.add_argument(
        "--embedding", action="append", default=[], metavar="F", help="a file of textual inversion, or word=file"
    )
    add_json(parser)
    group = parser.add_argument_group("text encoders")
    group.add_argument(
        "--model",
        metavar="M",
        help="a diffusers repository or folder; for one text encoder also a CLIP by path or name "
        "(with --for states by default tandem-mini)",
    )
    group.add_argument(
        "--tower", action="append", default=[], metavar="NAME=M", help="one text encoder by its name, as clip_l=FILE"
    )
    add_engine(group)


def run(arguments: argparse.Namespace) -> int:
    prompts = [
        *texts_of(arguments.prompt, "encoding", "prompt"),
        *(read_lines(arguments.prompts) if arguments.prompts else []),
    ]
    if not prompts:
        raise TandemError('nothing to encode: give a prompt, such as "a red fox", or --prompts F')
    if arguments.out:
        from tandem.conditioning.result import check_target

        check_target(arguments.out)
        check_new(user_path(arguments.out), overwrite=arguments.overwrite)
    if arguments.plot:
        from tandem import plots

        plots.check_target(user_path(arguments.plot))
        check_new(user_path(arguments.plot), overwrite=arguments.overwrite)
        plots.check_installed()
    conditioner = _load(arguments)
    with progress.waiting("encoding"):
        found = conditioner.encode(
            prompts,
            arguments.negative,
            clip_skip=arguments.clip_skip,
            syntax="plain" if arguments.plain else "weights",
            long=arguments.long,
        )
    if arguments.out:
        found.save(arguments.out)
    if arguments.plot:
        rows = [[plots.PromptWord(word.text, word.weight, word.chunk) for word in words] for words in found.words]
        plots.draw_prompts(rows, user_path(arguments.plot))
    if arguments.json:
        terminal.print_json(_document(found, arguments))
        return DONE
    print_table(
        (Column("prompt", least=16), Column("tokens", right=True), Column("chunks", right=True),
         Column("weights", least=8, drop=1), Column("cut", least=8)),
        [
            (prompt, str(_tokens(words)), str(found.chunks), _weights(words), " ".join(cut))
            for prompt, words, cut in zip(found.prompts, found.words, found.cut, strict=True)
        ],
    )  # fmt: skip
    cut_words = sum(map(len, found.cut)) + sum(map(len, found.negative_cut))
    if cut_words:
        terminal.complain(
            f"{terminal.count_of(cut_words, 'word')} cut: a prompt has at most {_room(found)} tokens here"
        )
    terminal.echo(_said(found, arguments.out, arguments.plot))
    return DONE


def _consumer(name: str) -> str:
    """One of the names on offer."""
    if name not in CONSUMERS:
        near = did_you_mean(name, CONSUMERS)
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(CONSUMERS)}, got {name[:60]!r}{near}")
    return name


def _load(arguments: argparse.Namespace) -> "Conditioner":
    from tandem.conditioning import Conditioner

    towers: dict[str, Any] = dict(_named(each, "--tower", "clip_l=FILE") for each in arguments.tower)
    embeddings: list[Any] = []
    for each in arguments.embedding:
        from tandem.conditioning import read_inversion

        word, equals, file = each.partition("=")
        embeddings.append(read_inversion(file, word) if equals and not Path(each).exists() else read_inversion(each))
    source = arguments.model
    if source is None and not towers and arguments.consumer == DEFAULT:
        source = "tandem-mini"
    names = [use.name for use in CONSUMERS[arguments.consumer].towers]
    if source is None and set(towers) != set(names):
        asked = " ".join(f"--tower {name}=FILE" for name in names)
        came = f", got --tower {', --tower '.join(towers)}" if towers else ""
        raise TandemError(
            f"--for {arguments.consumer}: expected --model M, a diffusers repository or folder, or {asked}{came}"
        )
    options = {name: getattr(arguments, name) for name in ("engine", "device", "precision")}
    with progress.waiting("loading the text encoders"):
        return Conditioner(arguments.consumer, source, embeddings=embeddings, **options, **towers)


def _named(written: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not equals or not name.isidentifier():
        raise TandemError(f"{option}: expected NAME=FILE, such as {example}, got {written!r}")
    return name, value


def _document(found: "Conditioning", arguments: argparse.Namespace) -> dict[str, Any]:
    shapes = {
        name: list(getattr(found, name).shape) for name in ("states", "pooled", "negative_states", "negative_pooled")
    }
    return {
        "consumer": found.consumer,
        "chunks": found.chunks,
        "shapes": shapes,
        "missing": found.missing,
        "out": arguments.out,
        "results": [
            {
                "prompt": prompt,
                "tokens": _tokens(words),
                "words": [{"text": each.text, "weight": round(each.weight, 6)} for each in words],
                "cut": list(cut),
            }
            for prompt, words, cut in zip(found.prompts, found.words, found.cut, strict=True)
        ],
    }


def _said(found: "Conditioning", out: str | None, plot: str | None) -> str:
    shapes = f"states {list(found.states.shape)}" + (
        f", pooled {list(found.pooled.shape)}" if found.pooled.size else ""
    )
    where = out or "the states are not written: give --out F.safetensors to keep them"
    where += f"; drew {plot}" if plot else ""
    missing = f"; missing: {found.missing}" if found.missing else ""
    return f"{CONSUMERS[found.consumer].title}: {shapes}; {where}{missing}"


def _tokens(words: Any) -> int:
    return sum(len(word.ids) for word in words)


def _weights(words: Any) -> str:
    return ", ".join(f"{word.text} {word.weight:.3g}" for word in words if abs(word.weight - 1) > 1e-6)


def _room(found: "Conditioning") -> int:
    return found.context_length - 2
