"""Follows folders: what changes in them is indexed, a batch at a time."""
