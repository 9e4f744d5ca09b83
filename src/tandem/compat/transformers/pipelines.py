"""`pipeline("zero-shot-image-classification")` of transformers. Knows labels and prompts; the rest it asks."""

from collections.abc import Iterable, Sequence
from typing import Any

from tandem.compat import loading, tensors
from tandem.compat.refusals import check_options, refuse
from tandem.compat.transformers.modelling import AutoModel, CLIPModel
from tandem.compat.transformers.processing import CLIPProcessor
from tandem.image import ImageSource, is_several, load_image, many

_TASK = "zero-shot-image-classification"
_INSTEAD = {
    "image-classification": "`tandem learn` makes classifiers of labelled photos, tandem.load(...).classify answers",
    "image-feature-extraction": "tandem.load(...).embed_images gives vectors, image_states the states of patches",
    "feature-extraction": "tandem.load(...).embed_texts gives vectors, text_states the states of tokens",
    "zero-shot-object-detection": "`tandem locate` finds where in a picture something is",
}


class ZeroShotImageClassificationPipeline:
    """Called with an image or several and `candidate_labels`, it gives a list of scores with labels for each."""

    task = _TASK

    def __init__(self, model: CLIPModel, processor: CLIPProcessor) -> None:
        self.model = model
        self.tokenizer = processor.tokenizer
        self.image_processor = processor.image_processor
        self.device = model.device

    def __call__(
        self,
        image: ImageSource | Iterable[ImageSource] | None = None,
        candidate_labels: Sequence[str] | str | None = None,
        *,
        images: Any = None,
        hypothesis_template: str = "This is a photo of {}.",
        timeout: float | None = None,
        batch_size: int = 1,
        tokenizer_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Scores of labels, the best first: softmax over them, or each pair's own probability for SigLIP.

        Images are PIL images, paths or URLs. Raises `ImageError` for one that cannot be read.
        """
        image = image if images is None else images
        if image is None or not candidate_labels:
            refuse("a pipeline without an image or candidate_labels", "classifier(image, candidate_labels=[...])")
        labels = [each.strip() for each in candidate_labels.split(",")] if isinstance(candidate_labels, str) else None
        names = labels or list(candidate_labels)
        siglip = self.model._model.config.logit_bias
        options = {"padding": "max_length", "truncation": True} if siglip else {"padding": True}
        texts = [hypothesis_template.format(name) for name in names]
        words = self.tokenizer(texts, return_tensors="np", **{**options, **(tokenizer_kwargs or {})})
        found = []
        for each in many(image):
            pixels = self.image_processor(load_image(each), return_tensors="np")
            logits = self.model(**words, **pixels).logits_per_image
            scores = tensors.numbers((logits.sigmoid() if siglip else logits.softmax(dim=-1))[0], "scores").tolist()
            rows = sorted(zip(scores, names, strict=True), key=lambda row: -row[0])
            found.append([{"score": score, "label": label} for score, label in rows])
        return found if is_several(image) else found[0]


def pipeline(
    task: str | None = None,
    model: Any = None,
    *,
    device: object = None,
    dtype: object = None,
    torch_dtype: object = None,
    **options: Any,
) -> ZeroShotImageClassificationPipeline:
    """The pipeline of "zero-shot-image-classification", of a model or its name; None for the model that ships.

    Raises `NotCoveredError` for other tasks.
    """
    if task not in (None, _TASK):
        refuse(f"pipeline({task!r})", _INSTEAD.get(str(task), f"{_TASK!r} is"))
    given = {name: options.pop(name, None) for name in ("processor", "tokenizer", "image_processor")}
    check_options("pipeline", {k: v for k, v in options.items() if k != "revision"}, loading.HARMLESS, loading.INSTEAD)
    type_of_numbers = torch_dtype if dtype is None else dtype
    if isinstance(model, CLIPModel):
        made = model
    else:
        made = AutoModel.from_pretrained(model, dtype=type_of_numbers, revision=options.get("revision"))
    if device not in (None, -1):
        made.to(device)
    processor = given["processor"] or CLIPProcessor(made._model.checkpoint)
    if given["tokenizer"] is not None:
        processor.tokenizer = given["tokenizer"]
    if given["image_processor"] is not None:
        processor.image_processor = given["image_processor"]
    return ZeroShotImageClassificationPipeline(made, processor)
