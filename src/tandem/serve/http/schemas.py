"""Building blocks of request and response bodies. Each route declares its own; the OpenAPI document lists all.

Knows types and fixed limits; `AtMost` names the limits of a server, which `bodies` checks.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tandem.defaults import LongTexts
from tandem.errors import ImageErrorKind
from tandem.scores.scoring import ScoringKind

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)

Limit = Literal["max_batch", "max_hits", "max_offset", "max_text_characters"]


@dataclass(frozen=True)
class AtMost:
    """Marks a field that a setting of the server bounds: a number, the items of a list, the characters of a text."""

    setting: Limit


def _whole(value: Any) -> Any:
    """10.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
_SOMETHING = {"pattern": "\\S"}  # for the document; code that reads the text has a better error for blank ones
Text = Annotated[str, Field(min_length=1, json_schema_extra=_SOMETHING)]
# "{}" once, as a regular expression of the subset that all dialects share.
Template = Annotated[
    str, Field(min_length=2, json_schema_extra={"pattern": r"^([^{]|\{+[^{}])*\{+\}([^{]|\{+[^{}])*\{*$"})
]
EncodedImage = Annotated[
    str,
    Field(
        min_length=1,
        description="a data URI (data:image/jpeg;base64,...); an http(s) address if its host is allowed",
        json_schema_extra={"pattern": "^(data:[^,]*,|https?://)"},
    ),
]
Labels = Annotated[list[Text], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AtMost("max_batch")]
HeadName = Annotated[
    str | None, Field(min_length=1, description="instead of labels: a head's name, as /v1/heads lists them")
]
Templates = Annotated[Annotated[list[Template], Field(min_length=1)] | Template | None, AtMost("max_batch")]
Long = Annotated[
    LongTexts,
    Field(
        description="of texts of more tokens than the model takes: an error, cut, or split into sentences or words "
        "whose vectors are averaged by their lengths"
    ),
]
Language = Annotated[
    str | None,
    Field(description="of the labels, such as de: without templates, the default one of that language"),
]
Independent = Annotated[
    bool,
    Field(
        description="judge each label by itself: several may be true, or none. For models trained with a sigmoid, and "
        "for calibrated ones"
    ),
]
Scored = Annotated[
    ScoringKind,
    Field(
        description="softmax: the labels compete, and probabilities sum to 1; head: so do the classes of a head; "
        "sigmoid, calibrated: each by itself, by the model or by its calibration"
    ),
]
CollectionName = Annotated[str | None, Field(description="which collection; the first one if left out")]
Where = Annotated[
    Annotated[str, Field(json_schema_extra=_SOMETHING)] | None,
    Field(description="keep only what passes, for example: width > 1000 and path like '%2023%'"),
    AtMost("max_text_characters"),
]


class RequestBody(BaseModel):
    """The body of a request. Unknown fields are errors: a misspelt filter must not be ignored.

    `image_fields` may be sent as files of a form. Exactly one of the fields in `either` is required, and of those in
    `or_else`.
    """

    image_fields: ClassVar[tuple[str, ...]] = ()
    either: ClassVar[tuple[str, ...]] = ()
    or_else: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(extra="forbid", str_max_length=64 * 2**20)

    @model_validator(mode="after")
    def _one_of_either(self) -> Self:
        for names in filter(None, (self.either, self.or_else)):
            if sum(getattr(self, name) is not None for name in names) != 1:
                raise ValueError(f"expected either {' or '.join(names)}")
        return self

    @classmethod
    def limits(cls) -> dict[str, Limit]:
        """The fields that are marked `AtMost`, and the setting of each."""
        marks = ((name, mark) for name, field in cls.model_fields.items() for mark in field.metadata)
        return {name: mark.setting for name, mark in marks if isinstance(mark, AtMost)}


def one_of(word: str, *fields: str, others_null: bool = False) -> dict[str, Any]:
    """Which fields must be there, and not null, for `json_schema_extra`."""
    ways = []
    for field in fields:
        properties: dict[str, Any] = {field: {"not": {"type": "null"}}}
        if others_null:
            properties |= {each: {"type": "null"} for each in fields if each != field}
        ways.append({"required": [field], "properties": properties})
    return {word: ways}


def labels_or_head(**others: Any) -> dict[str, Any]:
    """That either labels or a head must be there, for `json_schema_extra`, beside what `one_of` gave."""
    chosen = one_of("oneOf", "labels", "head", others_null=True)
    return {"allOf": [others, chosen]} if others else chosen


class ImageFailure(BaseModel):
    """An image that could not be read, and why."""

    image: Annotated[str, Field(description="the field it came in, such as images[2]")]
    error: str
    kind: ImageErrorKind


class FieldError(BaseModel):
    """A field of a request that does not fit."""

    field: str
    expected: str


class OpenAIError(BaseModel):
    """The same problem in the shape that OpenAI's clients read."""

    message: str
    type: str
    param: str | None
    code: str | None


class Problem(BaseModel):
    """A problem document (RFC 9457), with extension members where they apply."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error: OpenAIError
    errors: list[FieldError] = Field(default_factory=list, description="fields that do not fit")
    failures: list[ImageFailure] = Field(default_factory=list, description="images that could not be read")
    kind: ImageErrorKind | None = Field(None, description="of the image that could not be read")
    position: int | None = Field(None, description="of the mistake in a filter, in characters from 0")

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not found",
                    "status": 404,
                    "detail": "no image 'x' in photos",
                    "error": {
                        "message": "Not found: no image 'x' in photos",
                        "type": "not_found_error",
                        "param": None,
                        "code": None,
                    },
                }
            ]
        },
    )


class ModelName(BaseModel):
    name: str
    fingerprint: str
