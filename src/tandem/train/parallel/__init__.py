"""One step on many processes: which they are, what they exchange, and how a model is wrapped for them.

Knows modules and tensors; no objective, no data and no model of ours.
"""
