"""What a CUDA GPU makes of Tandem: correctness, encoding, training, the loss alone, and JPEG files to vectors.

    PYTHONPATH=src python bench/gpu.py all --minutes 9
    PYTHONPATH=src python bench/gpu.py encode --models ViT-B/32,ViT-L/14 --batches 256,1024

Each prints a short table. Finished cases are kept in --results, so a run that is stopped goes on where it was, and
`all` prints every table there is. Needs Python 3.11, torch, numpy, Pillow, safetensors and tokenizers; transformers and
torchvision are compared with where they are installed. --tiny runs all of it in seconds, also with --device cpu, to
see that it works: its figures mean nothing.

A share of the matrix rate is the operations of a pass (its matrix products and convolutions, counted by torch) over its
time, over the rate of a product of two random 8192 x 8192 matrices measured in the same run.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from gpu_measure import Results, machine

ITEMS = ("correct", "encode", "train", "loss", "files")
ROOT = Path(__file__).resolve().parents[1]


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*ITEMS, "all"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "gpu.jsonl", help="kept cases (%(default)s)")
    parser.add_argument("--again", action="store_true", help="measure what is kept once more")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no case after these")
    parser.add_argument("--tiny", action="store_true", help="small models and batches, to see that it works")
    parser.add_argument(
        "--golden", type=Path, default=ROOT.parent / "shared" / "golden", help="outputs of the original"
    )
    parser.add_argument("--models", help="ViT-B/32,... (encode: also B/16 and L/14; train: also B/16)")
    parser.add_argument("--batches", help="encode: 256,512,1024; train: 1024 to 8192; loss: 32768,65536")
    parser.add_argument("--widths", default="512,1024", help="of the vectors of the loss (%(default)s)")
    parser.add_argument("--count", type=int, default=4096, help="of JPEG files (%(default)s)")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(given)
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            f"gpu.py: torch {torch.__version__} finds no CUDA GPU here; --device cpu --tiny shows that it works",
            file=sys.stderr,
        )
        return 2
    tiny, wanted = chosen.tiny, ITEMS if chosen.what == "all" else (chosen.what,)
    described = machine(device)
    results = Results(chosen.results, described, chosen.again, time.monotonic() + 60 * chosen.minutes)
    print(described, flush=True)

    def numbers(small: list[int], usual: list[int]) -> list[int]:
        return [int(x) for x in chosen.batches.split(",")] if chosen.batches else small if tiny else usual

    def models(usual: str) -> list[str]:
        return (chosen.models or ("ViT-B/32" if tiny else usual)).split(",")

    right = True
    if "correct" in wanted:
        from gpu_correct import correct

        right = correct(device, results, chosen.golden, tiny)
    if "encode" in wanted:
        from gpu_encode import encode

        usual = models("ViT-B/32,ViT-B/16,ViT-L/14")
        encode(device, results, usual, numbers([4], [256, 512, 1024]), chosen.precision, chosen.rounds, tiny)
    if "train" in wanted:
        from gpu_train import train

        usual = models("ViT-B/32,ViT-B/16")
        train(device, results, usual, numbers([8], [1024, 2048, 4096, 8192]), chosen.rounds, tiny)
    if "loss" in wanted:
        from gpu_train import loss

        widths = [int(x) for x in chosen.widths.split(",")]
        loss(device, results, numbers([64], [32768, 65536]), widths[:1] if tiny else widths, 3, tiny)
    if "files" in wanted:
        from gpu_encode import files

        files(device, results, 6 if tiny else chosen.count, chosen.precision, tiny)
    if results.left:
        print(f"\n{len(results.left)} cases are left: the same command goes on with {results.left[0]}")
    if not right:
        print("\nNOT CORRECT on this device: see the rows above", file=sys.stderr)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
