"""CLIP's ResNet as an image tower."""
