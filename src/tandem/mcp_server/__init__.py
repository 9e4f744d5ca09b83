"""Collections as tools of assistants, over the Model Context Protocol."""
