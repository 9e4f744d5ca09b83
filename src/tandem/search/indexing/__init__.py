"""Sources -> a collection: walked, read, decoded, encoded, recorded; here (`local`) or on many machines (`on_ray`)."""
