"""Toy text towers of every kind that image generators take, and consumers of their sizes."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tandem.conditioning import CONSUMERS, Consumer
from tandem.config import TextTransformer
from tandem.engine import TextEngine, build_text
from tandem.files import write_json
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.towers import tower_part
from tandem.towers.parts.names import Names
from tandem.towers.text_transformer import names as text_names
from tandem.weights.names import renamed_to
from tandem.weights.text_tower import TextCheckpoint

SIZES = {"clip_l": (32, 3), "clip_h": (40, 3), "clip_g": (48, 4), "clip": (32, 3)}  # width, blocks
CONTEXT = 77
DIM = 20


def text(name: str, **changes) -> TextTransformer:
    width, layers = SIZES[name]
    activation = "quick_gelu" if name in ("clip_l", "clip") else "gelu"
    values = {"context_length": CONTEXT, "vocabulary_size": 49408, "pad_id": 49407} | changes
    return TextTransformer(
        values.pop("context_length"), values.pop("vocabulary_size"), width, layers, 4, 2 * width, activation, **values
    )


@functools.cache
def tower(name: str, *, projection: bool = True, seed: int = 0, **changes) -> TextCheckpoint:
    """Random weights; their scale is that of trained ones, so that layers differ."""
    description = text(name, **changes)
    dim = DIM if projection else 0
    draw = np.random.default_rng([seed, *map(ord, name)])
    tensors = {
        key: (
            draw.standard_normal(shape) * 0.2 + (key.endswith(("ln_1.weight", "ln_2.weight", "ln_final.weight")))
        ).astype(np.float32)
        for key, shape in tower_part(description, "shapes").shapes(description, dim).items()
    }
    if not projection:
        del tensors["text_projection"]
    tokenizer = Tokenizer.clip().with_format(TextFormat.of(description))
    return TextCheckpoint(description, dim, tensors, tokenizer, f"toy {name}")


@functools.cache
def engine(name: str) -> TextEngine:
    """What computes a toy, for what is expected."""
    made = tower(name)
    return build_text(made.text, made.embed_dim, made.tensors)


def consumer(name: str, **changes) -> Consumer:
    """The published description with the toys' sizes."""
    known = CONSUMERS[name]
    uses = []
    for use in known.towers:
        width, layers = SIZES[use.name] if use.width else (0, 0)
        uses.append(dataclasses.replace(use, width=width, layers=layers))
    return dataclasses.replace(known, towers=tuple(uses), t5_width=96, **changes)


def towers(name: str) -> dict[str, TextCheckpoint]:
    return {use.name: tower(use.name) for use in CONSUMERS[name].towers}


def save(checkpoint: TextCheckpoint, folder: Path, *, prefix: str = "text_model.", pad: str = "<|endoftext|>") -> None:
    """As transformers saves it in a diffusers repository: `folder`, and its tokenizer beside it."""
    words = checkpoint.text
    folder.mkdir(parents=True)
    named = renamed_to(checkpoint.tensors, Names(text_names.TRANSFORMERS))
    if prefix != "text_model.":
        named = {key.replace("text_model.", prefix): array for key, array in named.items()}
    save_file(named, folder / "model.safetensors")
    plain = {
        "model_type": "clip_text_model",
        "vocab_size": words.vocabulary_size,
        "hidden_size": words.width,
        "intermediate_size": words.mlp_width,
        "num_hidden_layers": words.layers,
        "num_attention_heads": words.heads,
        "hidden_act": words.activation,
        "max_position_embeddings": words.context_length,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "projection_dim": checkpoint.embed_dim or 512,
    }
    write_json(folder / "config.json", plain)
    beside = folder.parent / folder.name.replace("text_encoder", "tokenizer")
    beside.mkdir()
    checkpoint.tokenizer.save(beside)
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": pad}
    write_json(beside / "special_tokens_map.json", special)
    settings = {"model_max_length": words.context_length, "tokenizer_class": "CLIPTokenizer"}
    write_json(beside / "tokenizer_config.json", {**settings, **special})
