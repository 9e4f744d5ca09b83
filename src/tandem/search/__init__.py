"""Collections: images kept with their vectors, found by words, by image and by filter."""
