"""SigLIP 2's Vision Transformer for images of any aspect ratio (NaFlex)."""
