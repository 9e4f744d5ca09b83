"""Rows in which no peer takes part: search through the server, and what quantising costs the model that ships."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from comparison.machine import usage
from comparison.materials import Materials
from comparison.measuring import Open, Scale, finished, in_turn
from comparison.results import Measured
from comparison.rows import Row
from comparison.sides import ROOT, PeerError, Side

IMAGES, CLIENTS, SECONDS = 10_000, 16, 5.0
SETS = 3  # of the labelled sources


def measure_search(
    row: Row, sides: Mapping[str, Side], materials: Materials, running: Open, scale: Scale, home: Path
) -> Measured:
    """Milliseconds until half of the searches are answered; each side's server stays up for all rounds."""
    from peers import with_tandem
    from serve import search_requests
    from serve_load import closed_loop, serving

    measured = Measured(row.key, datetime.now(UTC).isoformat(timespec="seconds"))
    seconds = 1.0 if scale.rounds == 1 else SECONDS
    searches = search_requests(10)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=home))
        os.environ["TANDEM_HOME"] = folder
        ports: dict[str, int] = {}
        for name in row.sides:
            try:
                told = running.prepare(sides[name], row.model)
            except PeerError as error:
                measured.missing[name] = str(error)
                continue
            source, precision = with_tandem.source(told["model"], told["scratch"], sides[name].precision)
            url = f"{folder}/{name.replace(' ', '-')}.tandem"
            filling = [sys.executable, str(ROOT / "bench" / "search.py"), "--fill", url, source, str(IMAGES)]
            subprocess.run(filling, check=True)
            ports[name] = stack.enter_context(serving(url, "--precision", precision)).port
            measured.versions[name] = running.versions[name]

        def p50(name: str) -> float:
            return asyncio.run(closed_loop(ports[name], searches, CLIENTS, seconds)).quantile(0.5) * 1000

        before = usage()
        measured.values = in_turn({name: lambda n=name: p50(n) for name in ports}, row, scale)
        finished(measured, before)
    del os.environ["TANDEM_HOME"]
    return measured


def measure_mini(
    row: Row, sides: Mapping[str, Side], materials: Materials, running: Open, scale: Scale, home: Path
) -> Measured:
    """Zero-shot accuracy and recall in percent, figure by figure: `values` are not rounds, `notes` name them."""
    from mini import captioned, whole_sources
    from peers import with_tandem

    import tandem
    from tandem.evaluate import evaluate

    data = Path(os.environ.get("TANDEM_SHARED") or ROOT.parent / "shared") / "data"
    measured = Measured(row.key, datetime.now(UTC).isoformat(timespec="seconds"))
    if not data.is_dir():
        raise PeerError(f"{data} is not there: it needs the data sets of the model that ships (set TANDEM_SHARED)")
    before = usage()
    sets = [captioned(data, "dev")]
    if scale.rounds > 1:
        sets = [*whole_sources(data)[:SETS], *sets]
    for name in row.sides:
        told = running.prepare(sides[name], row.model)
        source, precision = with_tandem.source(told["model"], told["scratch"], sides[name].precision)
        report = evaluate(tandem.load(source, precision=precision), sets)
        figures = {
            f"{result.dataset.name}, {figure}": 100 * value.value
            for result in report.results
            for figure, value in result.figures.items()
            if figure == "top1" or "recall" in figure
        }
        measured.values[name], measured.notes = list(figures.values()), list(figures)
        measured.versions[name] = running.versions[name]
    return finished(measured, before)
