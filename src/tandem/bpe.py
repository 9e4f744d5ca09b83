"""Byte-level BPE tables in CLIP's style: the merges that ship, tables from files, and a table as `tokenizer.json`.

A table is a vocabulary and a list of merges. This module recognises, reads and writes it; it knows nothing of texts,
cleaning or context length.
"""

import gzip
import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.errors import ConfigError, in_words

if TYPE_CHECKING:
    import tokenizers

END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_VOCABULARY = 49408
SHIPPED_MERGES = Path(__file__).parent / "assets" / "bpe_clip.txt.gz"

# Special strings are not part of it: `Tokenizer` finds them as the original does.
SPLIT = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def byte_symbols() -> list[str]:
    """The 256 printable characters that stand for the bytes, in the order of CLIP's ids (not in that of the bytes)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + others))]


def symbol_bytes() -> dict[str, int]:
    """The byte that each of the printable characters stands for."""
    symbols = byte_symbols()
    plain = {symbol: ord(symbol) for symbol in symbols if ord(symbol) < 256}
    others = sorted(set(range(256)) - set(plain.values()))
    return {**plain, **{chr(256 + i): code for i, code in enumerate(others)}}


def text_of(tokens: Iterable[str]) -> str:
    """What tokens stand for, a space after each word and each run of punctuation; half characters are marked."""
    bytes_of = symbol_bytes() | {" ": 0x20}
    spaced = "".join(token.removesuffix(END_OF_WORD) + " " * token.endswith(END_OF_WORD) for token in tokens)
    return bytes(bytes_of[symbol] for symbol in spaced).decode(errors="replace").strip()


@dataclass(frozen=True)
class Table:
    """A byte-level BPE with an end-of-word mark. `added` maps special strings to ids, start and end included."""

    vocabulary: Mapping[str, int]
    merges: list[tuple[str, str]]  # in rank order
    added: Mapping[str, int] = field(default_factory=dict)


def from_merges(merges: list[tuple[str, str]]) -> Table:
    """Number a table as CLIP does: bytes, bytes that end a word, one for each merge, start, end."""
    symbols = byte_symbols()
    # dict.fromkeys: two merges may build one string, which has one id
    names = dict.fromkeys(
        [*symbols, *(s + END_OF_WORD for s in symbols), *map("".join, merges), START, END],
    )
    vocabulary = dict(zip(names, range(len(names)), strict=True))
    return Table(vocabulary, merges, {START: vocabulary[START], END: vocabulary[END]})


def shipped() -> Table:
    """CLIP's own table of 49,408 entries. Takes 25 ms to read (measured), and as long again for `core`."""
    # one flat list cut by strides: three times as fast as splitting line by line
    flat = gzip.decompress(SHIPPED_MERGES.read_bytes()).decode().replace("\n", " ").split(" ")
    left, right = flat[::2], flat[1::2]
    symbols = byte_symbols()
    names = [*symbols, *(s + END_OF_WORD for s in symbols), *map(operator.add, left, right), START, END]
    vocabulary = dict(zip(names, range(len(names)), strict=True))
    return Table(vocabulary, list(zip(left, right, strict=True)), {START: vocabulary[START], END: vocabulary[END]})


def from_files(vocabulary: Path, merges: Path) -> Table:
    """Read `vocab.json` and `merges.txt`. Raises `ConfigError` that names the file."""
    try:
        ids = json.loads(vocabulary.read_text(encoding="utf-8"))
        lines = merges.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{vocabulary.parent}: cannot read vocab.json and merges.txt: {in_words(error)}") from None
    rows = [line for line in lines if line and not line.startswith("#version")]
    return _checked(Table(ids, _pairs(rows, str(merges)), {s: ids[s] for s in (START, END) if s in ids}), str(merges))


def from_json(plain: Mapping[str, Any], source: str) -> Table | None:
    """The table of a parsed `tokenizer.json`; None unless it is a byte-level BPE in CLIP's style."""
    model = plain.get("model") or {}
    is_bpe = model.get("type", "BPE") == "BPE" and model.get("end_of_word_suffix") == END_OF_WORD
    if not is_bpe or '"ByteLevel"' not in json.dumps(plain.get("pre_tokenizer")):
        return None
    vocabulary = model.get("vocab") or {}
    added = {token["content"]: token["id"] for token in plain.get("added_tokens") or []}
    return _checked(Table(vocabulary, _pairs(model.get("merges") or [], source), added), source)


def _pairs(rows: Iterable[str | list[str]], source: str) -> list[tuple[str, str]]:
    """Merges are stored as "a b" or as ["a", "b"]."""
    pairs = [tuple(row.split(" ") if isinstance(row, str) else row) for row in rows]
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"{source}: expected merges of two parts each, got {next(p for p in pairs if len(p) != 2)}")
    return pairs  # type: ignore[return-value]


def _checked(table: Table, source: str) -> Table:
    if not table.vocabulary or not all(isinstance(i, int) for i in table.vocabulary.values()):
        raise ConfigError(f"{source}: expected a vocabulary of strings and whole numbers")
    missing = [s + mark for s in byte_symbols() for mark in ("", END_OF_WORD) if s + mark not in table.vocabulary]
    if missing:
        # the BPE silently drops bytes that have no symbol
        raise ConfigError(
            f"{source}: not a byte-level vocabulary: it lacks {len(missing)} symbols, e.g. {missing[0]!r}"
        )
    return table


def core(table: Table) -> "tokenizers.Tokenizer":
    """The part that the library `tokenizers` does: split clean text and merge bytes, without special strings."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    try:
        model = models.BPE(dict(table.vocabulary), table.merges, end_of_word_suffix=END_OF_WORD)
    except Exception as error:  # the library raises plain Exception
        raise ConfigError(f"the BPE table is inconsistent: {error}") from None
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def whole(table: Table) -> "tokenizers.Tokenizer":
    """What a reader of `to_json` has: `core` with its cleaning, and special strings wherever a text has them."""
    from tokenizers import AddedToken, Regex, normalizers

    tokenizer = core(table)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in table.added])
    return tokenizer


def to_json(table: Table, start_id: int | None, end_id: int | None) -> str:
    """A complete `tokenizer.json` that other readers clean and frame texts by; the same bytes for the same table.

    Its normaliser is the part of our cleaning that the format can express (no ftfy, no HTML entities).
    """
    names = {i: name for name, i in {**table.vocabulary, **table.added}.items()}
    frame = [(names[i], i) for i in (start_id, end_id) if i is not None]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = {**table.added, **dict(frame)}

    def framed(text: str) -> list[dict[str, Any]]:
        start, end = (
            [] if i is None else [{"SpecialToken": {"id": names[i], "type_id": 0}}] for i in (start_id, end_id)
        )
        return [*start, {"Sequence": {"id": text, "type_id": 0}}, *end]

    plain = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": s, **special} for s, i in sorted(added.items(), key=lambda x: x[1])],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Removed", "invert": True},
                byte_level,
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": framed("A"),
            "pair": [*framed("A"), *framed("B")],
            "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in frame},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                byte_level,
                {"type": "Replace", "pattern": {"String": END_OF_WORD}, "content": " "},
                {"type": "Strip", "content": " ", "start": 0, "stop": 1},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": END_OF_WORD,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(table.vocabulary.items(), key=lambda x: x[1])),
            "merges": [f"{a} {b}" for a, b in table.merges],
        },
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
