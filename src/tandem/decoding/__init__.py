"""What decoding an image costs, known before it begins: memory, seconds, and where it can be stopped.

Knows Pillow and the structure of files; nothing of models.
"""
