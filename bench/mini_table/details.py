"""What lies behind the rows of the table, as tables of Markdown, a column for each model."""

from collections.abc import Mapping, Sequence

import numpy as np

from mini_table import held_out, photos
from mini_table.held_out import Kept
from mini_table.measuring import Measured
from mini_table.presence import AMONG
from mini_table.rows import table


def details(found: Mapping[str, Measured], kept: Sequence[Kept]) -> list[str]:
    """Lines of all of them, each under a line that says what it is."""
    lines = ["Kept twentieth of `broad`, by source:", "", *table(_kept(found, kept)), ""]
    lines += ["Ten words: share of the most answered, that word, and top-1 (chance 10%):", "", *table(_everyday(found))]
    lines += ["", f"Present or absent among {AMONG} pictures, area (chance 0.5):", "", *table(_presence(found))]
    if any(each.photos for each in found.values()):
        lines += ["", "Demo photos:", "", *table(_photos(found))]
    return lines


def _kept(found: Mapping[str, Measured], kept: Sequence[Kept]) -> list[list[str]]:
    rows = [["source", "pictures", "labels", "chance", *found]]
    counted = [place for place, each in enumerate(kept) if each.counts]
    others = [place for place, each in enumerate(kept) if not each.counts]
    for place in [*counted, *others]:
        each, note = kept[place], "" if place in counted else " (a picture a label: not counted)"
        shares = [f"{measured.kept[place].mean():.1%}" for measured in found.values()]
        classes = len(each.classes)
        rows.append([each.name + note, str(len(each.images)), str(classes), f"{1 / classes:.1%}", *shares])
        if place == counted[-1]:
            total = sum(len(kept[i].images) for i in counted)
            both = [held_out.overall(kept, measured.kept) for measured in found.values()]
            rows.append(["all pictures", str(total), "", f"{both[0][1]:.1%}", *(f"{share:.1%}" for share, _ in both)])
            over = [f"{np.mean([measured.kept[i].mean() for i in counted]):.1%}" for measured in found.values()]
            chance = np.mean([1 / len(kept[i].classes) for i in counted])
            rows.append(["mean over sources", str(total), "", f"{chance:.1%}", *over])
    return rows


def _everyday(found: Mapping[str, Measured]) -> list[list[str]]:
    rows = [["pictures and prompts", *found]]
    for asked in next(iter(found.values())).everyday:
        answers = (measured.everyday[asked] for measured in found.values())
        rows.append([asked, *(f"{each.share:.1%} {each.word}, {each.top1:.1%}" for each in answers)])
    return rows


def _presence(found: Mapping[str, Measured]) -> list[list[str]]:
    rows = [["searches", *found]]
    for query in ("captions", "phrases"):
        for key, without in (("auc_present_emptied", "all matches"), ("auc_present_removed", "the own picture")):
            areas = (measured.presence[query][key] for measured in found.values())
            rows.append([f"{query}, with and without {without}", *(f"{area:.3f}" for area in areas)])
    return rows


def _photos(found: Mapping[str, Measured]) -> list[list[str]]:
    rows = [["photo", "shows", *found]]
    for name, shown in photos.SHOWN.items():
        answers = (measured.photos[name] for measured in found.values())
        rows.append([name, shown, *(f"{label} {probability:.0%}" for label, probability in answers)])
    return rows
