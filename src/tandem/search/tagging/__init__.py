"""What labels leave outside of a collection: keywords in XMP sidecars, and folders of links."""
