"""What is in a collection: near-duplicates, named clusters, a map."""
