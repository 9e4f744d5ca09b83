"""A run from a recipe to a model folder, with its checkpoints and reports. Start at `loop.py`."""
