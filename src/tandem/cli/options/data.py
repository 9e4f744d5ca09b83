"""How a data set is opened: what `datasets.open_dataset` takes, for every command that takes one."""

import argparse
from typing import Any

from tandem.cli.arguments import Group, non_negative, positive

_PLAIN = (
    "layout",
    "split",
    "label",
    "caption",
    "classes",
    "where",
    "limit",
    "seed",
)  # named as open_dataset names them


def add_data(
    group: Group,
    *,
    of: str = "",
    limit: str = "take N photos, drawn with --seed",
    seed: str = "of draws, splits and resamples",
    captions: bool = True,
) -> None:
    """The options of a data set. `of` is put before each help text where a command takes other things, too; without
    `captions` for one that reads none."""
    add = group.add_argument
    add("--split", metavar="S", help=f"{of}the split, such as test, where there are several")
    add("--layout", metavar="L", help=f"{of}how the data is laid out (default: recognised)")
    add("--label", metavar="COLUMN", help=f"{of}the column or key of labels (default: the usual ones)")
    if captions:
        add("--caption", metavar="COLUMN", help=f"{of}the column or key of captions (default: the usual ones)")
    add("--classes", metavar="F", help=f"{of}a file with the names of the classes: folder,name (.csv), or JSON")
    add("--template", action="append", metavar="T", help=f"{of}a prompt with {{}} for the class; several are averaged")
    add("--where", metavar="FILTER", help=f"{of}only rows for which this holds, as for tandem search")
    add("--limit", type=positive, metavar="N", help=f"{of}{limit}")
    add("--seed", type=non_negative, default=0, metavar="N", help=f"{seed} (%(default)s)")


def data_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `open_dataset` takes beside the source."""
    return {name: getattr(arguments, name, None) for name in _PLAIN} | {"templates": arguments.template}


def given_data_options(arguments: argparse.Namespace) -> list[str]:
    """The options that were given, as they are written; --seed is not counted, which also serves other things."""
    names = ("split", "layout", "label", "caption", "classes", "template", "where", "limit")
    return [f"--{name}" for name in names if getattr(arguments, name, None) is not None]
