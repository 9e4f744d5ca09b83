"""Whether the names of clusters are right, by the captions of their pictures.

    python bench/cluster_names.py TAR... [--model MODEL] [--seeds 8] [--half 0|1] [--vectors FILE] [--all]

Photos with captions (WebDataset tars) are clustered as `tandem explore` does, once for each seed, and named. The rules
that judge a name: it is *said* of a picture if one of its captions has all of its words, in any form (dog and dogs,
surfer and surfing). It is *right* if it is said of at least a quarter of the cluster's pictures, and at least twice as
often as of the others. By the strict rule it must be said of half of them: people name a thing in part of the photos
that show it, so that no word of the vocabulary passes this for most clusters, whatever the model.

Printed: the share of clusters with a name; how many of the names are right, by either rule, and how many are when they
are given to clusters at random; for how many clusters any word would be right. `--half` takes one half of the pictures:
what is chosen on one is checked on the other. `--all` names every cluster by its best word, however small its lead.
"""

import argparse
import re
from pathlib import Path

import numpy as np

import tandem
from tandem.search.calibration.caption_set import read_captioned
from tandem.search.exploring import clusters, naming

OFTEN, HALF, TIMES = 0.25, 0.5, 2.0
PLURALS = {
    "men": "man", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth", "geese": "goose",
    "mice": "mouse", "wolves": "wolf", "calves": "calf", "leaves": "leaf", "knives": "knife", "shelves": "shelf",
}  # fmt: skip
WHO = {  # not by a rule: a builder does not show in pictures of a building
    "surfer", "skier", "snowboarder", "skateboarder", "swimmer", "runner", "climber", "hiker", "biker", "dancer",
    "singer", "diver", "racer", "skater", "rider", "walker", "player",
}  # fmt: skip
SMALL = {"a", "an", "the", "of", "in", "and", "on", "s"}


def form(word: str) -> str:
    """What is left of a word without the endings of plurals and verbs."""
    word = PLURALS.get(word, word)
    if word.endswith("men") and len(word) > 3:
        word = word[:-3] + "man"
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif re.search("(s|x|z|ch|sh)es$", word):
        word = word[:-2]
    elif word.endswith("s") and not re.search("(ss|us|is)$", word) and len(word) > 3:
        word = word[:-1]
    if word in WHO:
        word = undoubled(word[:-2])
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = undoubled(word.removesuffix(ending))
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def undoubled(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def forms(text: str) -> set[str]:
    return {form(word) for word in re.findall("[a-z0-9]+", text.lower())} - SMALL


def said_of(words: tuple[str, ...], captions: list[tuple[str, ...]]) -> np.ndarray:
    """Whether each word is said of each picture, [w n]."""
    each = [[forms(caption) for caption in of_one] for of_one in captions]
    wanted = [forms(word) for word in words]
    found = np.zeros((len(words), len(captions)), dtype=bool)
    for picture, of_one in enumerate(each):
        together = set().union(*of_one)  # most words are in no caption
        for index in [index for index, word in enumerate(wanted) if word <= together]:
            found[index, picture] = any(wanted[index] <= one for one in of_one)
    return found


def read(tars: list[Path], model_name: str | None, words: tuple[str, ...], kept: Path | None) -> tuple[np.ndarray, ...]:
    """Vectors of pictures [n d] and words [w d], and what is said of which [w n]; from `kept` if it is there."""
    if kept and kept.exists():
        with np.load(kept) as file:
            return file["images"], file["words"], file["said"]
    samples = list(read_captioned(tars))
    model = tandem.load(model_name) if model_name else tandem.load()
    images = model.embed_images([sample.image for sample in samples])
    said = said_of(words, [sample.texts for sample in samples])
    found = (images, model.class_vectors(words, naming.TEMPLATES), said)
    if kept:
        np.savez(kept, **dict(zip(("images", "words", "said"), found, strict=True)))
    return found


def right(said: np.ndarray, members: np.ndarray, count: int, often: float) -> np.ndarray:
    """Which words are right for which clusters, [c w]."""
    inside = np.eye(count, dtype=np.float32)[members].T  # [c n]
    sizes = inside.sum(axis=1, keepdims=True)
    within = inside @ said.T.astype(np.float32)
    rest = (said.sum(axis=1) - within) / np.maximum(members.size - sizes, 1)
    within = within / np.maximum(sizes, 1)
    return np.asarray((within >= often) & (within >= TIMES * rest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tars", nargs="+", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--half", type=int, choices=(0, 1))
    parser.add_argument("--vectors", type=Path, help="file in which vectors are kept, or are already")
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    chosen_from = naming.candidates()
    images, meanings, said = read(arguments.tars, arguments.model, chosen_from.words, arguments.vectors)
    if arguments.half is not None:
        order = np.random.default_rng(7).permutation(len(images))
        part = np.sort(order[arguments.half * len(images) // 2 :][: len(images) // 2])
        images, said = np.ascontiguousarray(images[part]), said[:, part]
    place = {word: index for index, word in enumerate(chosen_from.words)}
    if arguments.all:
        naming.MIN_FIT = naming.MIN_LEAD = -np.inf
    rows = []
    for seed in range(arguments.seeds):
        centres = clusters.find_centres(images, clusters.choose_count(len(images)), seed=seed)
        members, _ = clusters.assign(images, centres)
        names = naming.name(images, members, len(centres), chosen_from, meanings)
        named = [(cluster, place[words[0]]) for cluster, words in enumerate(names) if words]
        rules = [right(said, members, len(centres), often) for often in (OFTEN, HALF)]
        clear = [sum(rule[cluster, word] for cluster, word in named) for rule in rules]
        by_chance = sum(rules[0][:, word].mean() for _, word in named)
        possible = [rule.any(axis=1).sum() for rule in rules]
        rows.append((len(centres), len(named), *clear, by_chance, *possible))
        if seed == 0:
            for cluster, word in named:
                mark = "right" if rules[0][cluster, word] else "not right"
                print(f"  {', '.join(names[cluster])} ({(members == cluster).sum()} pictures): {mark}")
    total, named_count, clear_count, strict, chance, any_word, any_strict = np.sum(rows, axis=0)
    of = max(named_count, 1)
    print(f"{len(images):,} pictures, {len(rows)} clusterings, {total:.0f} clusters; named: {named_count / total:.0%}")
    print(f"right of these: {clear_count / of:.0%} (strict rule {strict / of:.0%}; by chance {chance / of:.0%})")
    print(f"right of all clusters: {clear_count / total:.0%}")
    print(f"clusters for which some word is right: {any_word / total:.0%} (strict rule {any_strict / total:.0%})")


if __name__ == "__main__":
    main()
