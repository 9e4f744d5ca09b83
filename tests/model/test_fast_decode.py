"""Images that shrink while they are decoded: near enough to whole ones, on photographs, with the model that ships."""

import io

import numpy as np
import pytest
from PIL import Image
from support import skip_without

from tandem.image import decode
from tandem.model import Model, load
from tandem.search.indexing.preparing import DecodeOptions

skip_without("skimage", "sklearn")

LEAST_COSINE = 0.99


@pytest.fixture(scope="module")
def mini() -> Model:
    return load()


def photographs() -> list[Image.Image]:
    from skimage import data
    from sklearn import datasets

    arrays = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.hubble_deep_field()]
    arrays += [data.immunohistochemistry(), data.camera(), data.grass(), data.coins(), data.page()]
    return [Image.fromarray(array) for array in (*arrays, *datasets.load_sample_images().images)]


@pytest.mark.slow
@pytest.mark.parametrize("longest", [None, 1000, 1600, 2500, 4000])
def test_their_vectors_are_near_those_of_whole_images(mini: Model, longest: int | None) -> None:
    recipe = DecodeOptions.of(mini, fast_decode=True)
    whole, shrunken = [], []
    for photo in photographs()[: 4 if longest and longest > 2000 else None]:
        grown = photo
        if longest is not None:
            factor = longest / max(photo.size)
            grown = photo.resize((round(photo.width * factor), round(photo.height * factor)), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        grown.save(file, "JPEG", quality=92)
        decoded = decode(file.getvalue(), at_least=recipe.at_least)
        assert (decoded.width, decoded.height) == grown.size
        assert min(decoded.image.size) >= min(2 * mini.config.preprocessing.image_size, *grown.size)
        whole.append(decode(file.getvalue()).image)
        shrunken.append(decoded.image)
    assert longest is None or sum(a.size != b.size for a, b in zip(whole, shrunken, strict=True)) >= len(whole) - 1
    cosines = (mini.embed_images(whole) * mini.embed_images(shrunken)).sum(axis=1)
    assert np.all(cosines >= LEAST_COSINE), cosines


def test_full_decoding_is_what_it_was(mini: Model) -> None:
    assert DecodeOptions.of(mini).at_least is None
    assert DecodeOptions.of(mini, fast_decode=True).at_least == 256


def test_embedding_large_photos_fast_gives_nearly_their_vectors(mini: Model) -> None:
    files = []
    for photo in photographs()[:4]:
        file = io.BytesIO()
        photo.resize((photo.width * 2, photo.height * 2), Image.Resampling.LANCZOS).save(file, "JPEG", quality=92)
        files.append(file.getvalue())
    whole, fast = mini.embed_images(files), mini.embed_images(files, fast_decode=True)
    cosines = (whole * fast).sum(axis=1)
    assert np.all(cosines >= LEAST_COSINE), cosines
    assert not np.array_equal(whole, fast)
    small = io.BytesIO()
    photographs()[0].resize((200, 200)).save(small, "JPEG")
    both = [mini.embed_images(small.getvalue(), fast_decode=fast) for fast in (False, True)]
    assert np.allclose(*both, atol=1e-6)  # less than twice the model's size is left when it is halved
