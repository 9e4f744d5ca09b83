"""Defaults of searching and indexing that the command line shows in its help: reading them imports nothing."""

BATCH_SIZE = 32  # images encoded at once
HITS = 10  # of a search, or photos of a label
TEXT_WEIGHT = 0.5  # of the text in a search, where there is an image too
# From which two images are near-duplicates: a cosine with tandem-mini. Of photos saved again as JPEG (quality 90),
# resized to a half, or cropped by 4%: 95%, 100% and 96% stay above it; of the 24 million pairs of 7,000 photos that
# are no duplicates, one does (two moments of one football match). At 0.95 it would be 98%, 100% and 100%, and 17 pairs.
DUPLICATE_COSINE = 0.97
