"""Text encoders of image generators: ours beside transformers' on the same random weights.

    python bench/conditioning.py [--tower l|h|g] [--layers N] [--rounds 7] [--precision float32]

One prompt and one negative prompt, as a pipeline asks for them: two rows of 77 tokens, all hidden states. Sides
alternate and medians are compared; the largest difference of a state is printed beside. `g` takes 6 GB of memory.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from reference import load_note, machine
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tandem.conditioning.diffusers import CLIPTextModule
from tandem.tokenizer import Tokenizer
from tandem.weights.text_tower import text_tower_of

SIZES = {"l": (768, 12, 12, "quick_gelu"), "h": (1024, 23, 16, "gelu"), "g": (1280, 32, 20, "gelu")}
PROMPTS = ["a red fox under a pale moon, watercolour on rough paper", "blurry, low quality"]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tower", choices=SIZES, default="l")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    width, layers, heads, activation = SIZES[arguments.tower]
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=arguments.layers or layers,
        num_attention_heads=heads, hidden_act=activation, projection_dim=width, eos_token_id=49407,
    )  # fmt: skip
    theirs = CLIPTextModelWithProjection(config).eval()
    tokenizer = Tokenizer.clip()
    tensors = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    ours = CLIPTextModule(
        text_tower_of(config.to_dict(), tensors, tokenizer, "random weights"), precision=arguments.precision
    )
    ids = torch.from_numpy(tokenizer(PROMPTS, pad_to=77)).long()

    def ask(encoder: torch.nn.Module) -> Callable[[], object]:
        return lambda: encoder(ids, output_hidden_states=True)

    with torch.no_grad():
        first = seconds(ask(ours))
        expected, found = theirs(ids, output_hidden_states=True), ours(ids, output_hidden_states=True)
        apart = max(
            float((one - other).abs().max())
            for one, other in zip(found.hidden_states, expected.hidden_states, strict=True)
        )
        times: dict[str, list[float]] = {"ours": [], "transformers": []}
        for _ in range(arguments.rounds):
            times["ours"].append(seconds(ask(ours)))
            times["transformers"].append(seconds(ask(theirs)))
    print(machine())
    for name, each in times.items():
        print(
            f"{name:<13} {statistics.median(each) * 1000:8.1f} ms for two rows of 77 ({min(each) * 1000:.1f} at best)"
        )
    print(f"ratio {statistics.median(times['transformers']) / statistics.median(times['ours']):.2f}")
    print(f"the first call, which compiles: {first:.2f} s; largest difference of a state {apart:.1e}")
    print(load_note())


if __name__ == "__main__":
    main()
