"""The collections that are served: open ones, the files behind their images, their maps."""
