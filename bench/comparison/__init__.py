"""Tandem beside its peers: `bench/benchmark.py`. Each peer runs in a process of its own (`bench/peers/`)."""
