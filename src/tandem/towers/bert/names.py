"""What a BERT-like tower's tensors are called elsewhere: open_clip has our names, transformers no such CLIP."""

from tandem.towers.parts.names import Rule

RULES: dict[str, tuple[Rule, ...]] = {"open_clip": (), "transformers": ()}
