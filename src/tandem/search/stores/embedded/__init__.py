"""The local store: a folder that one process writes and many read. `store.py` says how it keeps its promises."""
