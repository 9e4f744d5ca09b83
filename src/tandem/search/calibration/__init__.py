"""Calibrates the scores of a model on images with captions: a `relevance.Calibration`, and its figures."""
