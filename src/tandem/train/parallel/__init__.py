"""One step on many processes: who they are, what they say to each other, and how a model is spread over them.

Knows modules and tensors; knows no objective, no data and no model of ours.
"""
