"""What to say of a name that is in no table: families that are refused, with what to take instead, and families that
load by another name. The same answers as docs/families.md gives."""

import re

# Beginnings of names without organisation, in lower case and without separators
_INSTEAD = {
    "eva0": "PE-Core, DFN",
    "convnext": "LAION-2B, DataComp",
    "vitamin": "LAION-2B, DataComp",
    "coca": "LAION-2B",
    "nllbclip": "XLM-R towers, MetaCLIP 2 or SigLIP 2",
    "jinaclip": "SigLIP 2",
    "nomicembed": "SigLIP 2",
}
_LOADS_BY = {
    "longclip": "LongCLIP loads as a file: download longclip-L.pt from BeichenZhang/LongCLIP-L and give its path",
    "bioclip": "BioCLIP loads by its hub names: imageomics/bioclip, imageomics/bioclip-2",
}


def answer(name: str) -> str:
    """What is known of a family that `tandem models` does not list; "" for any other name."""
    plain = re.sub(r"[^a-z0-9]", "", name.partition("@")[0].rpartition("/")[2].lower())
    # open_clip's architecture comes before a tag: "EVA02-B-16/merged2b_s8b_b131k"
    first = re.sub(r"[^a-z0-9]", "", name.partition("/")[0].lower())
    for start, instead in _INSTEAD.items():
        if plain.startswith(start) or first.startswith(start):
            return f"not supported; instead: {instead}; see Model families (docs/families.md)"
    return next((says for start, says in _LOADS_BY.items() if plain.startswith(start)), "")
