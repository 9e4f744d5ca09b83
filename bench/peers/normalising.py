"""Pixels as an image processor of transformers leaves them, without resizing: what encoders take."""

from typing import Any

import numpy as np


def normalised(pixels: Any, processor: Any) -> Any:
    """uint8 [n h w 3] -> float32 [n 3 h w], by the processor's mean and standard deviation."""
    mean = np.asarray(processor.image_mean, dtype=np.float32)
    std = np.asarray(processor.image_std, dtype=np.float32)
    scaled = (pixels.astype(np.float32) * np.float32(processor.rescale_factor) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
