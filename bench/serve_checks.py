"""A check for schemathesis: what fits the OpenAPI document is answered, but for what no schema can say.

Loaded by schemathesis itself (SCHEMATHESIS_HOOKS), in an environment of its own.
"""

import json

import schemathesis

# What a schema cannot say: what is a picture, how filters are written, which names and ids there are.
ABOUT_CONTENT = ("Image cannot be read", "Filter cannot be understood", "Not found", "Forbidden")
ABOUT_WORDS = (
    "is given twice",
    "dimensions: ",
    "labels times templates",
    "labels in their templates",
    "all texts together",
    "labels times k",
    "limit times labels",
    "none of ",
    "expected a word or a phrase",
    " tokens, start and end included",
)
# Said in the document (oneOf), but not heeded where all fields of a form are tried together.
ABOUT_WORDS += ("expected either image or images",)


@schemathesis.check
def accepted_or_about_content(ctx, response, case):  # type: ignore[no-untyped-def]
    """Positive cases are answered 2xx, or refused for something that the document cannot say."""
    if case.meta is None or case.meta.generation.mode.name != "POSITIVE" or response.status_code < 400:
        return
    problem = json.loads(response.content)
    told = problem.get("failures", [{}])[0].get("error", "") + problem["detail"]
    fits = problem["title"] in ABOUT_CONTENT or any(words in told for words in ABOUT_WORDS)
    assert fits or response.status_code == 503, f"fits the document but is refused: {problem}"


@schemathesis.check
def errors_are_problems(ctx, response, case):  # type: ignore[no-untyped-def]
    """No accident, and a problem document for every error; 503 says when to come back."""
    status = response.status_code
    assert status < 500 or (status == 503 and "retry-after" in response.headers), (
        f"{status}: {response.content[:300]!r}"
    )
    if status >= 400 and case.method.upper() != "HEAD":
        assert "application/problem+json" in str(response.headers.get("content-type")), response.headers
