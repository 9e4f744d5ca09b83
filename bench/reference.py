"""What the benches of encoding share: a ViT-B/32 of random weights, saved by transformers, and the machine's name.

Both sides of every comparison read the same folder.
"""

import importlib.metadata
import os
import platform
from pathlib import Path

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
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    wide = " ".join(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags.split())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("openvino", "torch", "transformers"))
    return f"{names[0] if names else platform.processor()} ({wide}), {os.cpu_count()} cores; {versions}"


def load_note() -> str:
    """What else the machine was doing: a contended run compares, but its absolute numbers are low."""
    busy = os.getloadavg()[0]
    return f"load average before the run: {busy:.1f} on {os.cpu_count()} cores"
