"""Classifiers on frozen features: fitted from a few labelled vectors, kept in small files. Knows no images."""
