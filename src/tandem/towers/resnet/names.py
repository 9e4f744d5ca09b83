"""CLIP's ResNet exists under OpenAI's names alone."""

from tandem.towers.parts.names import Rule

RULES: dict[str, tuple[Rule, ...]] = {"open_clip": (), "transformers": ()}
