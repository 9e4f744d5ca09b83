"""How close the patches of a grid are to one another, as attention that looks at neighbours adds it to its scores."""

import numpy as np
from numpy.typing import NDArray

from tandem.towers.parts.description import NEIGHBOURHOOD


def closeness(rows: int, columns: int, class_token: bool) -> NDArray[np.float32]:
    """float32 [t t]: exp(-|p - q|^2 / (2 * 5^2)) of the places p, q of two patches; 0 where one is the class token.

    The Gaussian window of NACLIP (Hajimiri et al. 2024, equation 5).
    """
    places = np.indices((rows, columns)).reshape(2, -1).T  # [rows*columns 2]
    distances = ((places[:, None] - places) ** 2).sum(axis=-1)
    near = np.exp(-distances / (2 * NEIGHBOURHOOD**2)).astype(np.float32)
    return np.pad(near, (int(class_token), 0))
