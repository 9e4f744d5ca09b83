"""Where in an image: heat maps, boxes and points for texts, and whether they are there at all.

An image is looked at in windows (`windows`), each of which gives vectors at places (`evidence`). How well words fit
there, against words for backgrounds (`contrast`) and beside what they get anywhere (`neutral`), is spread to a map
(`maps`), and a map has boxes and a point (`boxes`). `settings` says how, by model; `location` is the answer.
"""
