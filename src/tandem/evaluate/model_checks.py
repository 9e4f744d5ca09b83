"""What a task asks of a model before it measures: whether the vectors are its own, and what it has seen."""

from tandem.errors import DataError
from tandem.evaluate.features import Features
from tandem.model import Model


def check_same_model(model: Model, data: Features) -> None:
    """Raises `DataError` for features of another model, and for none at all."""
    if not len(data.dataset):
        raise DataError(f"{data.dataset.name}: expected at least one image, got none")
    if data.fingerprint != model.fingerprint:
        raise DataError(
            f"{data.dataset.name}: expected vectors of {model.name} ({model.fingerprint[:12]}), got those of another "
            f"model ({data.fingerprint[:12]}): embed the images with this one"
        )


def note_of_training(model: Model) -> tuple[str, ...]:
    """A line on what the model says of its training data, for the notes of a result."""
    if model.config.data:
        return (
            f"{model.name} was trained on: {model.config.data}. What was seen in training is not zero-shot: figures on "
            "such classes or images say how well they were learnt.",
        )
    return (f"{model.name} does not say what it was trained on: whether it has seen these classes is not known.",)
