"""The transformer as a text tower: CLIP's own, and what SigLIP, MetaCLIP 2, MobileCLIP and CLIPA vary."""
