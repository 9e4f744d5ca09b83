"""Two runs in one folder: the second is refused, and the first one's work stays."""

from pathlib import Path

import pytest
from support import run_toys

from tandem.errors import DataError
from tandem.train.recipe_file import read_recipe
from tandem.train.run import run_lock
from tandem.train.run.loop import train

pytestmark = pytest.mark.slow

SMALL = ("steps=2", "checkpoints.every_steps=1", "optimiser.warmup_steps=1", "validation.retrieval=",
         "validation.zero_shot=")  # fmt: skip


def test_a_second_run_in_a_folder_is_refused_while_the_first_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toys.write_data(tmp_path)
    recipe = read_recipe(run_toys.write_recipe(tmp_path, tmp_path / "run"), SMALL)
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0)
    refused: list[str] = []

    def second() -> bool:
        with pytest.raises(DataError) as error:
            train(recipe)
        refused.append(str(error.value))
        return False

    result = train(recipe, second)
    expected = f"{tmp_path / 'run'}: another run is training here; wait for its end, stop it, or give another folder="
    assert refused[0] == expected
    assert (result.step, result.model) == (2, tmp_path / "run" / "model")
    assert train(recipe).model == result.model  # the lock ends with the run that held it
