"""Defaults that the command line shows in its help, apart from what they are for: reading them imports nothing."""

BATCH_SIZE = 32  # images encoded at once
HITS = 10  # of a search
TEXT_WEIGHT = 0.5  # of the text in a search, where there is an image too
DUPLICATE_COSINE = 0.97  # from which two images are near-duplicates
