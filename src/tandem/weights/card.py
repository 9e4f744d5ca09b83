"""The model card (README.md) of a folder that Tandem writes. Pure text from a configuration."""

from tandem.config import ModelConfig
from tandem.weights.shapes import parameter_count


def model_card(config: ModelConfig, to: str) -> str:
    """Markdown with the front matter hubs read. `to` is the layout, which has the name of its library."""
    vision, text = config.vision, config.text
    front = ["---"]
    if config.licence:
        front.append(f"license: {config.licence.lower()}")
    front += [f"library_name: {to}", "pipeline_tag: zero-shot-image-classification", "tags: [clip]", "---"]
    name = config.name or "A CLIP model"
    rows = [
        ("image encoder", f"{vision.summary}, {vision.image_size} pixels"),
        ("text encoder", f"transformer, {text.layers} layers of width {text.width}, {text.context_length} tokens"),
        ("shared space", f"{config.embed_dim} dimensions"),
        ("weights", f"{parameter_count(config) / 1e6:.1f} M"),
        ("activation", config.activation or f"{getattr(vision, 'activation', 'relu')}, of texts {text.activation}"),
        ("licence", config.licence or "not stated by its source"),
        ("trained on", config.data or "not stated by its source"),
    ]
    sections = {
        "Use": f'```python\nimport tandem\n\nmodel = tandem.load("path/to/this/folder")  # {name}\n'
        'answer = model.classify(["photo.jpg"], ["cat", "dog"])\n```',
        **({"Assumptions": "\n".join(f"- {note}" for note in config.notes.values())} if config.notes else {}),
    }
    lines = [
        *front,
        "",
        f"# {name}",
        "",
        "Two encoders, one for images and one for texts, into one shared space (CLIP). Written by Tandem.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {label} | {value} |" for label, value in rows),
        "",
    ]
    for title, body in sections.items():
        lines += [f"## {title}", "", body, ""]
    return "\n".join(lines)
