"""The Vision Transformer as an image tower: CLIP's own, CLIPA's, SigLIP's, PE-Core's."""
