"""No command writes over a file that it reads."""

from pathlib import Path

import pytest
from support import toy
from support.commands import Run, one_line


@pytest.mark.parametrize(
    "arguments",
    [
        ("locate", "photo.png", "a dog", "--plot", "photo.png"),
        ("score", "photo.png", "--prompt", "a dog", "--sheet", "photo.png"),
        ("score", ".", "--prompt", "a dog", "--sheet", "photo.png"),
        ("score", "table.csv", "--out", "table.csv"),
        ("score", "table.csv", "--out", "./link.csv"),
    ],
)
def test_an_input_is_no_target(
    tandem: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.random_image().save("photo.png")
    Path("table.csv").write_text("image,prompt\nphoto.png,a dog\n")
    Path("link.csv").symlink_to("table.csv")
    before = [Path(name).read_bytes() for name in ("photo.png", "table.csv")]
    assert "an input" in one_line(tandem(*arguments))
    assert [Path(name).read_bytes() for name in ("photo.png", "table.csv")] == before
