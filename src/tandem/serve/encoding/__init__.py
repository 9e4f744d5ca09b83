"""What a request brings as text or image -> vectors: reading, fetching, batches, the encoder."""
