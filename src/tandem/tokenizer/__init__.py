"""Texts to token ids: cleaning, vocabularies of every kind, and the frame and length that a model wants."""

from tandem.tokenizer.text_format import TextFormat
from tandem.tokenizer.tokenizer import CONTEXT_LENGTH, Tokenizer

__all__ = ["CONTEXT_LENGTH", "TextFormat", "Tokenizer"]
