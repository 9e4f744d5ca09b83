"""The tables of docs/choose-a-model.md, from the same facts as `tandem models`: `make docs`."""

import re
from collections.abc import Sequence

from tandem.weights.choosing import ordered_for
from tandem.weights.published import KnownModel, published_models

ROWS = {"cpu": 10, "languages": 10, "quality": 8}
_TABLE = re.compile(r"(<!-- models (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refreshed(page: str) -> str:
    """The page with its tables, which stand between `<!-- models USE -->` and `<!-- end -->`, made anew."""
    return _TABLE.sub(lambda found: found[1] + (_SECTIONS[found[2]]()) + found[3], page)


def _for(purpose: str) -> str:
    return _table(ordered_for(purpose, published_models())[: ROWS[purpose]])


def _table(models: Sequence[KnownModel]) -> str:
    lines = [
        "| name | parameters | pixels | GFLOP an image | languages | ImageNet | XM3600 | licence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in models:
        figures = ["" if figure is None else f"{figure:.1f}" for figure in (model.imagenet, model.xm3600)]
        lines.append(
            f"| `{model.name}` | {model.parameters / 1e6:,.0f} M | {model.image_size} | {model.gflops:,.0f} | "
            f"{model.languages} | {' | '.join(figures)} | {model.licence} |"
        )
    return "\n".join(lines) + "\n"


def _families() -> str:
    lines = ["| family | models | languages | licence | figures from |", "|---|---|---|---|---|"]
    families: dict[str, list[KnownModel]] = {}
    for model in published_models():
        families.setdefault(model.family, []).append(model)
    for family, models in families.items():
        sources = dict.fromkeys(
            source for model in models for source in (model.imagenet_source, model.xm3600_source) if source
        )
        lines.append(
            f"| {family} | {len(models)} | {_listed(model.languages for model in models)} | "
            f"{_listed(model.licence for model in models)} | {'; '.join(map(_linked, sources))} |"
        )
    return "\n".join(lines) + "\n"


def _listed(values: "Sequence[str] | object") -> str:
    return ", ".join(dict.fromkeys(values))  # type: ignore[call-overload]


def _linked(source: str) -> str:
    address, _, place = source.partition(", ")
    if not address.startswith("https://"):
        return source
    name = "/".join(address.removeprefix("https://").split("/")[:3])
    return f"[{name}]({address})" + (f", {place}" if place else "")


_SECTIONS = {
    "cpu": lambda: _for("cpu"),
    "languages": lambda: _for("languages"),
    "quality": lambda: _for("quality"),
    "families": _families,
}
