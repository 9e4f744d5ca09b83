"""Defaults that the command line, Python and the server share. Reading them imports nothing."""

BATCH_SIZE = 32  # images encoded at once, or sent in one request
HITS = 10  # of a search, or images of a label
LABELS = 3  # of an image
TEXT_WEIGHT = 0.5  # of the text in a search, where there is an image too
# From which two images are near-duplicates: a cosine with tandem-mini. Of photos saved again as JPEG (quality 90),
# resized to a half, or cropped by 4%: 95%, 100% and 96% stay above it; of the 24 million pairs of 7,000 photos that
# are no duplicates, one does (two moments of one football match). At 0.95 it would be 98%, 100% and 100%, and 17 pairs.
DUPLICATE_COSINE = 0.97
# Where a collection can be; `search.stores.backends` reads them.
ADDRESS_FORMS = "a folder, lance+s3://bucket/name, milvus://host:19530/name, or https://... (Zilliz)"
