"""Tokenizers as transformers has them: texts to `input_ids` and `attention_mask`, with its very ids.

Shapes: n texts, t tokens.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tandem.compat.refusals import check_length, check_options, refuse
from tandem.compat.transformers.batches import BatchFeature, FromPretrained, check_kind, returned
from tandem.errors import TextError
from tandem.weights import Checkpoint


class CLIPTokenizer(FromPretrained):
    """Texts to token ids. Called with texts it gives `input_ids` and `attention_mask` [n t]."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._tokenizer = checkpoint.tokenizer.as_read_from_json()
        self._text = checkpoint.config.text
        # SigLIP attends to its padding: its tokenizers give no mask
        self.model_input_names = ["input_ids"] if self._text.fixed_length else ["input_ids", "attention_mask"]

    @property
    def model_max_length(self) -> int:
        return self._text.context_length

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.vocabulary_size

    @property
    def bos_token_id(self) -> int | None:
        return self._tokenizer.start_id

    @property
    def eos_token_id(self) -> int | None:
        return self._tokenizer.end_id

    @property
    def pad_token_id(self) -> int:
        return self._tokenizer.pad_id

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        *,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        **options: Any,
    ) -> BatchFeature:
        """`input_ids` and `attention_mask`, lists or, by `return_tensors`, tensors ("pt") or arrays ("np") [n t].

        padding: to the longest text (True), or to `max_length`, by default the model's. Raises `TextError` for a text
        of more tokens than the model reads, without `truncation`.
        """
        check_options(type(self).__name__, options, _TEXT_HARMLESS, _TEXT_INSTEAD)
        check_kind(return_tensors)
        ids = self._ids(text, truncation, max_length)
        if padding not in (True, False, "longest", "max_length", "do_not_pad"):
            refuse(f"padding={padding!r}", 'expected True, False, "longest", "max_length" or "do_not_pad"')
        to = max(map(len, ids), default=0) if padding in (True, "longest") else 0
        to = (max_length or self.model_max_length) if padding == "max_length" else to
        mask = [[1] * len(row) + [0] * (to - len(row)) for row in ids]
        ids = [row + [self.pad_token_id] * (to - len(row)) for row in ids]
        batch: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        wanted = "attention_mask" in self.model_input_names if return_attention_mask is None else return_attention_mask
        if not wanted:
            del batch["attention_mask"]
        if isinstance(text, str) and return_tensors is None:
            return BatchFeature({name: rows[0] for name, rows in batch.items()})
        if return_tensors is not None and len(set(map(len, ids))) > 1:
            raise TextError("texts of different lengths make no tensor: padding=True pads them to the longest")
        return BatchFeature(
            {name: returned(np.array(rows, np.int64), return_tensors) if return_tensors else rows
             for name, rows in batch.items()}
        )  # fmt: skip

    def _ids(self, text: Any, truncation: bool | str | None, max_length: int | None) -> list[list[int]]:
        if text is not None and (isinstance(text, bytes) or not isinstance(text, str | Iterable)):
            raise TextError(f"expected a text or several, got {type(text).__name__}")
        texts = [text] if isinstance(text, str) else list(text or ())
        if not texts:
            raise TextError("expected a text or several, got none")
        if max_length is not None:
            check_length("max_length", max_length)
        if truncation not in (None, True, False, "longest_first", "do_not_truncate"):
            refuse(f"truncation={truncation!r}", "expected True or False")
        cuts = truncation in (True, "longest_first")
        limit = min(max_length, self.model_max_length) if cuts and max_length else self.model_max_length
        room = self._tokenizer.room(limit)
        start, end = self.bos_token_id, self.eos_token_id
        found = []
        for row, each in zip(self._tokenizer.encode(texts), texts, strict=True):
            if len(row) > room and not cuts:
                raise TextError(
                    f"the text {each[:40]!r} has {len(row) + self._tokenizer.format.added} tokens; the model reads "
                    f"{limit}: shorten it, or cut it with truncation=True"
                )
            first, last = ([] if token is None else [token] for token in (start, end))
            found.append([*first, *row[:room], *last])
        return found


_TEXT_HARMLESS = {
    "add_special_tokens": True,
    "return_token_type_ids": False,
    "padding_side": "right",
    "is_split_into_words": False,
    "verbose": ...,
    "do_convert_rgb": ...,
}
_TEXT_INSTEAD = {
    "text_pair": "a text at a time",
    "text_target": "a text at a time",
    "stride": "model.embed_texts(..., long='split') of tandem.load reads long texts in parts",
    "return_overflowing_tokens": "model.embed_texts(..., long='split') of tandem.load reads long texts in parts",
    "return_offsets_mapping": "tandem.Tokenizer gives ids alone",
}
