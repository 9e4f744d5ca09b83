"""What a model offers for places: `locate` and `which`."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tandem.image import ImageSource
from tandem.localization.methods import HEAT_SIZE, Method

if TYPE_CHECKING:
    from tandem.localization.choosing import Choice
    from tandem.localization.locating import Locator
    from tandem.localization.location import Locations


class Localizer:
    """A base of `Model`; the arithmetic is imported when it is first asked for."""

    def locate(
        self,
        image: ImageSource,
        texts: str | Sequence[str],
        *,
        templates: str | Sequence[str] | None = None,
        method: Method | None = None,
        heat_size: int = HEAT_SIZE,
    ) -> "Locations":
        """Where texts are in an image, and whether they are there: one `Location` for each text.

        Each has `present`, a `point` and `boxes` in pixels of the upright image, and `heat` [h w] in its aspect. Texts
        compete for each place, with one another and with words for what else may be there.

        Args:
            image: a path, URL, bytes, PIL image or array.
            texts: one or several, 64 at most.
            templates: prompts with {} for the text; the text itself by default.
            method: "windows" (parts of the image, each encoded), "naclip" (patches of a transformer) or
                "attention-pool" (positions of a ResNet). By default what was measured to be best for the model, or
                else its architecture's: the answer's `method` says which.
            heat_size: of a heat map's longer side. It bounds memory; `Location.heat_at` resizes a map.

        Raises `ImageError` for an image that cannot be read, and `TandemError` for a method that the model's image
        tower does not have.
        """
        return self._locator.locate(image, texts, templates=templates, method=method, heat_size=heat_size)

    def which(self, images: ImageSource | Iterable[ImageSource], instruction: str) -> "Choice":
        """The region of an image, or the image of several, that an instruction such as "pick up the red ball" is about.

        Its `candidates` are ranked, the best one first, each with the point to reach for; `instruction.thing` are the
        words that were looked for. Raises `ImageError` where no image can be read, and `TextError` for an instruction
        that names no thing.
        """
        from tandem.localization.choosing import choose

        return choose(self._locator, images, instruction)

    @cached_property
    def _locator(self) -> "Locator":
        from tandem.localization.locating import LocatingModel, Locator

        model: LocatingModel = self  # type: ignore[assignment]  # what it is a base of
        return Locator(model)
