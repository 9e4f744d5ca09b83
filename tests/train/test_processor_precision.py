"""Training in bfloat16 on a processor that only emulates it takes longer than in float32, and says so."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import training_toys

from tandem import processor
from tandem.train.objective import teacher
from tandem.train.run import assembly

FLAGS = {
    "": False,  # it says nothing: nothing is known
    "sse2 avx512f avx512_vnni": True,
    "sse2 avx512f avx512_bf16": False,
    "sse2 amx_tile amx_bf16": False,
}


@pytest.mark.parametrize(("flags", "emulates"), FLAGS.items())
def test_what_a_processor_says_of_its_instructions(flags: str, emulates: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_lines", lambda: [f"flags\t: {flags}"] if flags else [])
    assert processor.emulates_bfloat16() is emulates


@pytest.mark.parametrize(
    ("precision", "device", "emulates", "warned"),
    [
        ("bfloat16", "cpu", True, True),
        ("bfloat16", "cpu", False, False),
        ("float32", "cpu", True, False),
        ("bfloat16", "cuda", True, False),
    ],
)
def test_a_run_is_warned_where_bfloat16_is_emulated(
    precision: str, device: str, emulates: bool, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "emulates_bfloat16", lambda: emulates)
    recipe = training_toys.recipe(tmp_path, training_toys.CAPTIONED, precision=precision)
    lines = assembly.precision_warnings(recipe, torch.device(device))
    assert len(lines) == warned
    assert all('precision = "float32"' in line for line in lines)


@pytest.mark.parametrize(("emulates", "multiplies_in"), [(True, torch.float32), (False, torch.bfloat16)])
def test_a_teacher_encodes_in_what_the_processor_multiplies(
    emulates: bool, multiplies_in: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    used: list[torch.dtype] = []

    class Encoder(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            found = torch.ones(*input_ids.shape, 4) @ torch.eye(4)
            used.append(found.dtype)
            return SimpleNamespace(last_hidden_state=found)

    def tokens(texts: list[str], **_: object) -> dict[str, torch.Tensor]:
        ones = torch.ones(len(texts), 3, dtype=torch.int64)
        return {"input_ids": ones, "attention_mask": ones}

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: tokens)
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda _: Encoder())
    monkeypatch.setattr(teacher, "emulates_bfloat16", lambda: emulates)
    (tmp_path / "config.json").write_text("{}")
    found = teacher.vectors(str(tmp_path), ["a cat", "a dog"], tmp_path / "teacher.npz")
    assert used == [multiplies_in]
    np.testing.assert_array_equal(found["a cat"], np.full(4, 0.5, np.float16))
