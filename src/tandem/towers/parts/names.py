"""What tensors are called in other formats: one table of rules that serves reading and writing.

Our names are OpenAI's: `visual.` for the image tower, no prefix for the text tower. `{}` in a rule stands for a number
(of a block or a stage), the same on both sides. Knows names and how an array is cut, turned or framed there; no files.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")  # endings of a batch norm's tensors
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True)
class Rule:
    """One of our tensors, and what holds it in another format."""

    ours: str
    theirs: tuple[str, ...]  # several: parts of it, first rows first
    transposed: bool = False
    ones: int = 0  # dimensions of 1 that the file has in front of ours
    rows: tuple[int, ...] = ()  # how many shares of the rows each part has; () where all are equal


def same(ours: str, theirs: str, *endings: str) -> tuple[Rule, ...]:
    """Rules for a layer's tensors (`weight` and `bias` unless said), which keep their names and their arrays."""
    return tuple(Rule(f"{ours}.{end}", (f"{theirs}.{end}",)) for end in endings or ("weight", "bias"))


def parts(ours: str, theirs: Sequence[str], rows: tuple[int, ...] = ()) -> tuple[Rule, ...]:
    """Rules for a fused projection, `ours`_weight and `ours`_bias, that lies in several layers."""
    return tuple(
        Rule(f"{ours}_{end}", tuple(f"{name}.{end}" for name in theirs), rows=rows) for end in ("weight", "bias")
    )


def blocks(ours: str, theirs: str, layers: dict[str, str], attention: Sequence[str]) -> tuple[Rule, ...]:
    """Rules for pre-norm blocks: `layers` renames those that stay whole, `attention` are the parts of q, k and v."""
    rules = [
        rule
        for mine, their in layers.items()
        for rule in same(f"{ours}.resblocks.{{}}.{mine}", f"{theirs}.{{}}.{their}")
    ]
    shares = (1, 2) if len(attention) == 2 else ()
    names = [f"{theirs}.{{}}.{part}" for part in attention]
    return (*rules, *parts(f"{ours}.resblocks.{{}}.attn.in_proj", names, shares))


def transformers_blocks(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules for the pre-norm blocks of transformers' CLIP and SigLIP, the same in both towers."""
    layers = {
        "ln_1": "layer_norm1",
        "attn.out_proj": "self_attn.out_proj",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    return blocks(ours, theirs, layers, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))


class Names:
    """The rules of a format, by our names and by theirs."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_ours: dict[str, Rule] = {}
        self._by_theirs: dict[str, tuple[Rule, int]] = {}
        for rule in rules:
            self._by_ours[rule.ours] = rule
            self._by_theirs |= {name: (rule, i) for i, name in enumerate(rule.theirs)}

    def theirs(self, name: str) -> tuple[Rule, tuple[str, ...]] | None:
        """The rule for one of our names, and the names that hold it; None where it has no place."""
        pattern, numbers = _pattern(name)
        rule = self._by_ours.get(pattern)
        return None if rule is None else (rule, tuple(_filled(their, numbers) for their in rule.theirs))

    def ours(self, name: str) -> tuple[Rule, str, int] | None:
        """The rule for one of their names, our name for it, and which part of it that is; None for unknown names."""
        pattern, numbers = _pattern(name)
        found = self._by_theirs.get(pattern)
        return None if found is None else (found[0], _filled(found[0].ours, numbers), found[1])


def _pattern(name: str) -> tuple[str, list[str]]:
    """A name with `{}` for its numbers, and the numbers; those that a rule spells out itself stay."""
    return _NUMBER.sub("{}", name), _NUMBER.findall(name)


def _filled(pattern: str, numbers: Sequence[str]) -> str:
    return pattern.format(*numbers)
