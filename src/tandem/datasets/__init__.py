"""Labelled and captioned images in the layouts that people have them in. Knows no model.

`Dataset` is what tasks read; each layout is a module that makes one of it.
"""
