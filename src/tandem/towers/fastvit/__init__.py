"""FastViT, the convolutional image tower of MobileCLIP and MobileCLIP 2."""
