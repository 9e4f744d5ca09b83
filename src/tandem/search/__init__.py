"""Collections: pictures kept with their vectors, found by words, by picture and by filter."""
