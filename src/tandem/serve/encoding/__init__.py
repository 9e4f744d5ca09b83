"""Turns texts and images of requests into vectors: reading, fetching, batching, the encoder."""
