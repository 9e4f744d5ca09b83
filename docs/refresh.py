"""Brings README and docs up to date with the program: `make docs`. Tests compare what it writes.

The command reference comes from the parser, the HTTP reference from the server's OpenAPI document, the tables of
models from the facts that `tandem models` lists, and README's demo (what it prints, what it draws) from a run of
`tandem demo`.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import http_reference
import model_tables
from PIL import Image

from tandem.cli.reference import markdown

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # A home of its own: calibrations of whoever runs this must not show, nor the demo be in their list.
        os.environ["TANDEM_HOME"] = folder
        _refresh(folder)


def _refresh(folder: str) -> None:
    (ROOT / "docs" / "commands.md").write_text(markdown(), encoding="utf-8")
    http = http_reference.markdown(http_reference.document())
    (ROOT / "docs" / "http.md").write_text(http, encoding="utf-8")
    choose = ROOT / "docs" / "choose-a-model.md"
    choose.write_text(model_tables.refreshed(choose.read_text(encoding="utf-8")), encoding="utf-8")
    image = Path(folder) / "answer.png"
    command = [sys.executable, "-m", "tandem", "demo", "--quiet", "--out", str(image)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout
    # A quarter of the pixels and a palette: every clone carries it.
    drawn = Image.open(image).convert("RGB").reduce(2)
    drawn.quantize(256).save(ROOT / "docs" / "images" / "demo.png", optimize=True)
    shown = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(
        re.sub(r"```text\n.*?```", lambda _: f"```text\n{shown}\n```", text, count=1, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
