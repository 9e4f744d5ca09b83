"""Collections: images stored with their vectors, searched by text, by image and by filter."""
