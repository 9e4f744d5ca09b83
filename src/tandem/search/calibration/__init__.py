"""What a model's scores mean, learnt from images with captions: a `relevance.Calibration`, and its figures."""
