"""What the benches of encoding share: models of random weights, saved by transformers, and the machine's name.

Both sides of every comparison read the same folder.
"""

import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.processor import processor_flags, processor_generation, processor_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


START, END = 49406, 49407


def make_folder(folder: Path) -> Path:
    """A transformers folder with weights (605 MB), tokenizer and preprocessor. Made once, kept where it is."""
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from tandem.tokenizer import Tokenizer

    torch.manual_seed(0)
    tokens = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": END}
    config = CLIPConfig(text_config=tokens, vision_config={"patch_size": 32}, projection_dim=512)
    folder.mkdir(parents=True, exist_ok=True)
    CLIPImageProcessor().save_pretrained(folder)
    Tokenizer.clip().save(folder)
    CLIPModel(config).save_pretrained(folder)
    return folder


def machine() -> str:
    """Processor, cores and versions, in a line."""
    flags = processor_flags()
    wide = " ".join(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags)
    versions = ", ".join(f"{name} {_version(name)}" for name in ("openvino", "torch", "transformers"))
    return f"{processor_name()} ({processor_generation()}{wide}), {os.cpu_count()} cores; {versions}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def load_note() -> str:
    """What else the machine was doing: a contended run compares, but its absolute numbers are low."""
    busy = os.getloadavg()[0]
    return f"load average before the run: {busy:.1f} on {os.cpu_count()} cores"


def make_siglip_folder(folder: Path, *, tiny: bool = False) -> Path:
    """SigLIP 2 B/16-256 in transformers' layout (1.5 GB), made once: weights, image processor, a stand-in tokenizer.

    The tokenizer has the real one's 256,000 entries, made of all strings of up to four letters: what loading it costs
    is alike. tiny: the same with small towers, for trying things out.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    torch.manual_seed(0)
    entries = 2000 if tiny else 256_000
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = sizes if tiny else {}
    size, tokens = 32 if tiny else 256, {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(
        text_config={**sizes, **tokens, "vocab_size": entries, "projection_size": sizes.get("hidden_size", 768)},
        vision_config={**sizes, "image_size": size, "patch_size": 16},
    )
    folder.mkdir(parents=True, exist_ok=True)
    images = SiglipImageProcessor(size={"height": size, "width": size})
    SiglipProcessor(images, _tokenizer(entries)).save_pretrained(folder)
    SiglipModel(config).save_pretrained(folder)
    return folder


def _tokenizer(entries: int) -> "PreTrainedTokenizerFast":
    """A byte-pair tokenizer like Gemma's: spaces as U+2581, an end token, padding with 0."""
    import itertools
    import string

    from tokenizers import Tokenizer, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = ["\u2581", *string.ascii_lowercase]
    strings = ("".join(parts) for n in (2, 3, 4) for parts in itertools.product(letters, repeat=n))
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    plain = [*string.punctuation, *string.digits]
    made = list(itertools.islice(strings, entries - len(special) - len(plain) - len(letters)))
    vocabulary = {token: i for i, token in enumerate([*special, *letters, *plain, *made])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(token[:-1], token[-1]) for token in made], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
