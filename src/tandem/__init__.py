"""Tandem: CLIP as real software. The public names are resolved on first use, so that importing costs nothing."""
