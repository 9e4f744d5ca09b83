"""What the tensors of a NaFlex Vision Transformer are called by transformers: the same as SigLIP's."""

from tandem.towers.vision_transformer.names import TRANSFORMERS

RULES = {"open_clip": (), "transformers": TRANSFORMERS}
