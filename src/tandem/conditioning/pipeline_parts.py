"""What a diffusers pipeline asks of a text encoder and a tokenizer, beside arithmetic: configuration, outputs, ids.

Under transformers' names, which pipelines use. No torch: whoever makes a tokenizer says what a tensor is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tandem.conditioning.learnt_words import LearntWords
from tandem.conditioning.words import spelling
from tandem.errors import ConditioningError
from tandem.tokenizer import Tokenizer
from tandem.weights.text_tower import MODEL_TYPE, TextCheckpoint

LEARNT = "give files of textual inversion to replace_text_encoders(pipe, embeddings=[...]) instead"


class TextConfig:
    """What pipelines read of a text encoder's configuration, under transformers' names."""

    model_type = MODEL_TYPE
    use_attention_mask = False

    def __init__(self, checkpoint: TextCheckpoint) -> None:
        text = checkpoint.text
        self.hidden_size = text.width
        self.num_hidden_layers = text.layers
        self.num_attention_heads = text.heads
        self.intermediate_size = text.mlp_width
        self.max_position_embeddings = text.context_length
        self.vocab_size = text.vocabulary_size
        self.projection_dim = checkpoint.embed_dim or text.width
        self.bos_token_id, self.eos_token_id, self.pad_token_id = text.start_id, text.end_id, text.pad_id

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"model_type": self.model_type, **vars(self)}


class TextOutput:
    """What a text encoder returns: by attribute, by place (which leaves out what is absent) and by name."""

    def __init__(self, **values: Any) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"the text encoder's output has {', '.join(self._values)}; not {name!r}")
        return self._values[name]

    def __getitem__(self, key: int | slice | str) -> Any:
        return self._values[key] if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_tuple(self) -> tuple[Any, ...]:
        """The values in order."""
        return tuple(self._values.values())


class TokenizedPrompts(dict[str, Any]):
    """`input_ids` and `attention_mask`, by name and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"tokenized prompts have {', '.join(self)}; not {name!r}") from None


class PromptTokenizer:
    """Takes the place of CLIPTokenizer in a pipeline. Words with learnt embeddings become the ids that follow."""

    added_tokens_encoder: Mapping[str, int] = {}  # what pipelines would expand themselves

    def __init__(
        self,
        tokenizer: Tokenizer,
        context_length: int,
        learnt: LearntWords | None = None,
        to_tensor: Callable[[np.ndarray], Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.model_max_length = context_length
        self._to_tensor = to_tensor
        self._learnt = learnt or LearntWords()
        self._spelt = {ids[0]: word for word, ids in self._learnt.ids.items()}
        self.bos_token_id, self.eos_token_id = tokenizer.start_id, tokenizer.end_id
        self.pad_token_id = tokenizer.pad_id
        self.vocab_size = tokenizer.vocabulary_size

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: bool | str = False,
        max_length: int | None = None,
        truncation: bool | str | None = False,
        return_tensors: str | None = None,
        add_special_tokens: bool = True,
        return_length: bool = False,
        return_overflowing_tokens: bool = False,
    ) -> TokenizedPrompts:
        """Prompts to ids, as transformers' tokenizer of CLIP gives them."""
        known = ("np",) if self._to_tensor is None else ("pt", "np")
        if return_tensors is not None and return_tensors not in known:
            raise ConditioningError(f"return_tensors: expected {' or '.join(known)}, got {return_tensors!r}")
        if return_length or return_overflowing_tokens or not add_special_tokens:
            raise ConditioningError(
                "return_length, return_overflowing_tokens, add_special_tokens=False: this tokenizer has none of them"
            )
        one = isinstance(text, str)
        limit = self.model_max_length if max_length is None else max_length
        rows = [self._ids(each) for each in ([text] if isinstance(text, str) else text)]
        room = self.tokenizer.room(limit)
        if truncation:
            rows = [row[:room] for row in rows]
        first = [] if self.bos_token_id is None else [self.bos_token_id]
        last = [] if self.eos_token_id is None else [self.eos_token_id]
        framed = [[*first, *row, *last] for row in rows]
        width = limit if padding == "max_length" else max(map(len, framed), default=0)
        if padding in (False, "do_not_pad", None):
            padded, masks = framed, [[1] * len(row) for row in framed]
        else:
            padded = [row + [self.pad_token_id] * (width - len(row)) for row in framed]
            masks = [[1] * len(row) + [0] * (width - len(row)) for row in framed]
        if return_tensors is None:
            return TokenizedPrompts(input_ids=padded[0] if one else padded, attention_mask=masks[0] if one else masks)
        arrays = (np.asarray(padded, np.int64), np.asarray(masks, np.int64))
        if return_tensors == "np" or self._to_tensor is None:
            return TokenizedPrompts(input_ids=arrays[0], attention_mask=arrays[1])
        ids, mask = (self._to_tensor(each) for each in arrays)
        return TokenizedPrompts(input_ids=ids, attention_mask=mask)

    def tokenize(self, text: str) -> list[str]:
        """The entries of the vocabulary that a text is made of."""
        return [self.tokenizer.token_of(i) or self._spelt.get(i, "") for i in self._ids(text)]

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """The text that ids spell; start and end are left out where they are to be skipped."""
        special = {self.bos_token_id, self.eos_token_id} if skip_special_tokens else set()
        return spelling([int(i) for i in ids if int(i) not in special], self.tokenizer)

    def batch_decode(self, rows: Any, skip_special_tokens: bool = False) -> list[str]:
        """`decode` of each."""
        return [self.decode(row, skip_special_tokens) for row in rows]

    def add_tokens(self, *_: Any, **__: Any) -> int:
        """Refused: see `replace_text_encoders`."""
        raise ConditioningError(f"no tokens can be added to this tokenizer: {LEARNT}")

    def get_vocab(self) -> dict[str, int]:
        """Entries to ids."""
        count = self.vocab_size
        return {token: i for i in range(count) if (token := self.tokenizer.token_of(i)) is not None}

    def __len__(self) -> int:
        return self.vocab_size

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in self._learnt.divide(text):
            ids += self.tokenizer.encode(piece)[0] if isinstance(piece, str) else piece[1]
        return ids
