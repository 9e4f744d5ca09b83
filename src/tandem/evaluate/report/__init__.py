"""Results to pages that people read: Markdown, and HTML in one file. Measures nothing."""
