"""How well a model locates: pointing, boxes, and "there / not there", on drawn scenes and on mosaics of real photos.

    python bench/locate.py [--model M] [--scenes 200] [--seed 7] [--mosaics val.parquet]
    python bench/locate.py --choose [--photos photos.tar] [--mosaics val.parquet] [--write]     measures, keeps the best
    python bench/locate.py --time                                       a window against an embedding, ViT-B/32 and B/16

Kinds that the model knows are those whose drawn crops its score tells from crops of all other kinds with an area under
the ROC curve of at least 0.9, on seeds of their own. Beside each figure stands what chance gives: for a point, the
mean share of the image that the thing covers; and what always pointing at the middle gives. Intervals are 95%, over
scenes. --choose compares methods, windows and spreads on other seeds than those that are reported.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from locate_choosing import choose
from locate_scenes import KNOWN, asked_of, drawn, known_kinds, mosaics, report

import tandem
from tandem.audit.things import THINGS
from tandem.localization.locating import Locator
from tandem.localization.settings import save_settings, shipped_path

TEST = 7  # the seed of what is reported; choosing has others


def time_engines() -> None:
    """A window's dense vectors against its embedding, at the native size, random weights."""
    from tandem import engine as engines
    from tandem import nn
    from tandem.config import ModelConfig, Preprocessing, TextTransformer, VisionTransformer

    text = TextTransformer(77, 1000, 64, 1, 1, 256, "quick_gelu", 998, 999)  # it is not timed
    for name in ("ViT-B-32", "ViT-B-16"):
        vision = VisionTransformer(224, int(name[-2:]), 768, 12, 12, 3072, "quick_gelu")
        config = ModelConfig(512, vision, text, Preprocessing(224))
        tensors = nn.to_arrays(nn.initialise(nn.CLIP(config)))
        pixels = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), np.uint8)
        built = engines.build(config, tensors)
        seconds = {}
        for verb in (built.encode_images, built.encode_dense):
            verb(pixels)
            verb(pixels)
        for _ in range(7):
            for verb in (built.encode_images, built.encode_dense):
                began = time.perf_counter()
                verb(pixels)
                seconds.setdefault(verb.__name__, []).append(time.perf_counter() - began)
        plain, dense = (min(each) / len(pixels) * 1000 for each in seconds.values())
        print(f"{name}: embedding {plain:.1f} ms, dense {dense:.1f} ms, ratio {dense / plain:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=TEST)
    parser.add_argument("--mosaics", type=Path, help="a Parquet file of labelled photos: columns image, names")
    parser.add_argument("--photos", type=Path, help="a tar of photos, for baseline windows")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--methods", nargs="+", default=(), help="with --choose: only these")
    parser.add_argument("--write", action="store_true", help="into the model's folder")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    if arguments.time:
        time_engines()
        return
    model = tandem.load(arguments.model)
    locator = Locator(model)
    if arguments.choose:
        settings = choose(model, arguments.scenes, arguments.photos, arguments.methods, arguments.mosaics)
        print(settings.method, settings.scales, settings.bandwidth, settings.level, settings.presence, settings.figures)
        path = save_settings(settings, model.fingerprint, shipped_path(model) if arguments.write else None)
        print(f"wrote {path}")
        return
    settings, areas = locator.settings, known_kinds(model)
    known = {kind for kind, value in areas.items() if value >= KNOWN and kind in THINGS}
    print(f"{model.name}: {settings.method}, windows of {settings.scales} of the shorter side")
    print("areas of crops:", ", ".join(f"{kind} {value:.2f}" for kind, value in areas.items()))
    began = time.perf_counter()
    asked = asked_of(locator, drawn(arguments.seed, arguments.scenes), settings, known)
    print(f"{(time.perf_counter() - began) / arguments.scenes:.2f} s a scene, its texts included")
    things = [each for each in asked if each.family == "things"]
    report([each for each in things if each.text in known], f"drawn things that it knows ({', '.join(sorted(known))})")
    report(
        [each for each in things if each.text not in known or each.box is None], "other drawn things, known ones absent"
    )
    report([each for each in asked if each.family == "shapes"], "coloured shapes; absent ones fit in half")
    if arguments.mosaics:
        asked = asked_of(locator, mosaics(arguments.mosaics, arguments.seed, arguments.scenes // 2), settings, known)
        report(asked, "mosaics of six labelled photos")


if __name__ == "__main__":
    main()
