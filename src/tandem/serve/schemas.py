"""What requests say, with examples: the OpenAPI document is made from it. Answers have the shape of `--json`.

Knows shapes and limits that never change; the limits of a server (batch, hits) are checked by its routes.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tandem.search.query import SearchQuery

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def _whole(value: Any) -> Any:
    """10.0 is a whole number in JSON; the types are told apart otherwise."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
_SOMETHING = {"pattern": "\\S"}  # said in the document; what is blank is told so in better words by those who read it
Text = Annotated[str, Field(min_length=1, json_schema_extra=_SOMETHING)]
# "{}" once, in words of regular expressions that every reader of the document knows.
Template = Annotated[
    str, Field(min_length=2, json_schema_extra={"pattern": r"^([^{]|\{+[^{}])*\{+\}([^{]|\{+[^{}])*\{*$"})
]
Picture = Annotated[
    str,
    Field(
        min_length=1,
        description="a data URI (data:image/jpeg;base64,...); an http(s) address if its host is allowed",
        json_schema_extra={"pattern": "^(data:[^,]*,|https?://)"},
    ),
]
Labels = Annotated[list[Text], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
Templates = Annotated[list[Template], Field(min_length=1)] | Template | None
CollectionName = Annotated[str | None, Field(description="which collection; the first one if left out")]
Where = Annotated[
    Annotated[str, Field(json_schema_extra=_SOMETHING)] | None,
    Field(description="keep only what passes, for example: width > 1000 and path like '%2023%'"),
]


class _Request(BaseModel):
    """A field that is not known is an error: a misspelt filter must not be ignored."""

    model_config = ConfigDict(extra="forbid", str_max_length=64 * 2**20)


def _one_of(word: str, *fields: str, others_null: bool = False) -> dict[str, Any]:
    """Which of some fields must be there, and not null."""
    ways = []
    for field in fields:
        properties: dict[str, Any] = {field: {"not": {"type": "null"}}}
        if others_null:
            properties |= {each: {"type": "null"} for each in fields if each != field}
        ways.append({"required": [field], "properties": properties})
    return {word: ways}


Item = Annotated[dict[Literal["text", "image"], Text], Field(min_length=1, max_length=1)]


class EmbeddingsRequest(_Request):
    """OpenAI's request. An item is a sentence, or a picture as a data URI or as {"image": ...}."""

    input: Annotated[
        Text | Annotated[list[Text | Item], Field(min_length=1)],
        Field(description="a sentence or a picture, or a list of them"),
    ]
    model: Annotated[str | None, Field(description="a name of /v1/models; any that is served if left out")] = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(description="only the model's own number is possible"), WHOLE] = None
    user: Annotated[str | None, Field(description="ignored; clients of OpenAI send it")] = None

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"input": ["a bird on a railing", PIXEL]}]}
    )


class ClassifyRequest(_Request):
    """One `image` or several `images`, and the labels that compete."""

    image: Picture | None = None
    images: Annotated[list[Picture], Field(min_length=1)] | None = None
    labels: Labels
    templates: Annotated[
        Templates, Field(description='sentences with {} for the label; default "a photo of a {}."')
    ] = None
    model: str | None = None

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"image": PIXEL, "labels": ["cat", "dog", "zebra"]}],
            **_one_of("oneOf", "image", "images", others_null=True),
        },
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "ClassifyRequest":
        if (self.image is None) == (self.images is None):
            raise ValueError("expected either image or images")
        return self


class SearchRequest(_Request):
    """A text, an image (`image`, or the id of one in the collection as `like`), or both."""

    text: Text | None = None
    image: Picture | None = None
    like: Annotated[Text | None, Field(description="the id of a picture in the collection")] = None
    minus: Annotated[Text | None, Field(description="less of what this text says")] = None
    minus_image: Picture | None = None
    weight: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="of the text where there is an image too")
    ] = SearchQuery.weight
    k: Annotated[int, Field(ge=1), WHOLE] = SearchQuery.k
    offset: Annotated[int, Field(ge=0), WHOLE] = SearchQuery.offset
    where: Where = None
    threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"text": "a black cat sleeping on a red sofa", "k": 10, "where": "width > 100"}],
            **_one_of("anyOf", "text", "image", "like"),
        },
    )


class LabelRequest(_Request):
    """The best pictures of every label, or the best labels of every picture (`by`)."""

    labels: Labels
    templates: Templates = None
    by: Literal["label", "picture"] = "label"
    k: Annotated[int | None, Field(ge=1, description="pictures a label (10), or labels a picture (3)"), WHOLE] = None
    ids: Annotated[list[Text] | None, Field(description="only these pictures, with all labels of each")] = None
    where: Where = None
    offset: Annotated[int, Field(ge=0, description="with by=picture: after how many pictures"), WHOLE] = 0
    limit: Annotated[int, Field(ge=1, description="with by=picture: how many pictures"), WHOLE] = 100
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"labels": ["cat", "dog", "beach"], "k": 5}]}
    )


class AddRequest(_Request):
    """Pictures to put into a collection, which keeps their bytes."""

    images: Annotated[list[Picture], Field(min_length=1)]
    collection: CollectionName = None

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"images": [PIXEL]}]})


class DeleteRequest(_Request):
    ids: Annotated[list[Text], Field(min_length=1)]
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": ["0123456789abcdef0123456789abcdef"]}]}
    )


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"type": "about:blank", "title": "Not found", "status": 404, "detail": "no picture 'x' in photos"}
            ]
        },
    )


class ModelName(BaseModel):
    name: str
    fingerprint: str


class Hit(BaseModel):
    id: str
    path: str
    score: float
    relevance: float | None
    metadata: dict[str, Any]
    thumbnail: str


class SearchAnswer(BaseModel):
    query: dict[str, str]
    model: ModelName
    nothing_matches: bool
    threshold: float | None
    offset: int
    hits: list[Hit]
    collection: str
    total: Annotated[int, Field(description="pictures in the collection, or of those that pass the filter")]


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    fingerprint: str
    usage: Usage


class Classified(BaseModel):
    image: str
    best: str
    probabilities: dict[str, float]
    logits: dict[str, float]


class Failed(BaseModel):
    image: str
    error: str


class ClassifyAnswer(BaseModel):
    model: ModelName
    labels: list[str]
    results: list[Classified]
    failures: list[Failed]
