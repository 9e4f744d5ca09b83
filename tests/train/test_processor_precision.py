"""Training in bfloat16 on a processor that only emulates it takes longer than in float32, and says so."""

from pathlib import Path

import pytest
import torch
from support import training_toys

from tandem import processor
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
