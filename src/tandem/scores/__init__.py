"""What cosines mean: probabilities of labels, and the relevance of hits by a model's calibration."""
