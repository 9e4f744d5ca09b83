"""Seeded damage for each reader of files, in a process under limits: a value, or one line of ours. `bench/fuzz.py` runs
more of it."""

import pytest
from support.bounded import bounded
from support.fuzzing import CORPUS, READERS
from support.processes import COMMANDS

IMPORTED = (*COMMANDS, "support.fuzzing", "tandem.weights.torch_legacy", "tandem.weights.torch_zip", "tokenizers")
LOUD = ("tokenizer", "image")  # libraries in Rust and C say aloud what they stumble over, before the error reaches us
# A few of each kind: damage to text is mostly read as text
CASES = {"pickle": 600, "zip": 200, "safetensors": 300, "configuration": 150, "tokenizer": 200, "image": 200}


KEPT = {"pickle": 3, "zip": 1, "safetensors": 5, "configuration": 1, "tokenizer": 4, "image": 3}  # cases of the corpus


@pytest.mark.slow_if("pickle", "safetensors")
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_end_in_a_line_or_a_value(reader: str) -> None:
    outcome = bounded(
        "support.fuzzing:run", reader, "1", str(CASES[reader]), imported=IMPORTED, seconds=30, silent=reader not in LOUD
    )
    assert outcome.error is None
    assert outcome.megabytes < 300
    assert outcome.result["read"] + outcome.result["refused"] == CASES[reader]
    assert outcome.result["refused"] > CASES[reader] // 10  # the damage reaches what is read


@pytest.mark.parametrize("reader", READERS)
def test_cases_that_once_failed(reader: str) -> None:
    outcome = bounded("support.fuzzing:replay", reader, imported=IMPORTED, seconds=30, silent=reader not in LOUD)
    assert outcome.error is None
    assert outcome.megabytes < 300
    assert len(list(CORPUS.glob(f"{reader}-*"))) == KEPT[reader]
    assert outcome.result == {"read": 0, "refused": KEPT[reader]}
