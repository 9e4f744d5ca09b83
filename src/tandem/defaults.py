"""Defaults that the command line, Python and the server share. Reading them imports no other module of ours."""

from typing import Literal

BATCH_SIZE = 32  # images encoded at once, or sent in one request
HITS = 10  # of a search, or images of a label
LABELS = 3  # of an image
LOCATED_TEXTS = 16  # that a server takes at once: each has a map of the image
MAX_IMAGE_BYTES = 128 * 2**20  # of one image's file, wherever it comes from
MAX_PIXELS = 128_000_000  # of an image: 512 MB decoded; phones take up to 200 million
MOMENTS = 1  # of one film, before everything else that was found; 0 for all
TEXT_WEIGHT = 0.5  # of the text in a search by text and image
# Minimum cosine of near-duplicates, measured with tandem-mini's first edition. Photos saved again as JPEG (quality 90),
# halved in size, or cropped by 4% exceed it in 95%, 100% and 96% of cases; of the 24 million pairs of 7,000 different
# photos, one does (two moments of one football match). At 0.95 it would be 98%, 100% and 100%, and 17 pairs.
DUPLICATE_COSINE = 0.97
# Forms of a collection's address, for help texts; `search.stores.backends` parses them.
ADDRESS_FORMS = "a folder, lance+s3://bucket/name, milvus://host:19530/name, or https://... (Zilliz)"
# The policies that ship, for help texts; `moderation.policy_files` reads them.
POLICIES = ("alcohol", "documents", "people", "screenshots")
# What happens to texts of more tokens than the model takes: an error, cut, or split and averaged
LongTexts = Literal["error", "truncate", "split"]
