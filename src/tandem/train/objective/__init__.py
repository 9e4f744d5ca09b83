"""The objective of training: losses on vectors, teachers, and what a step's loss is made of. Knows no process.

Every loss here is a **share**: what this process adds to the loss on the whole batch. The shares of all processes sum
to that loss, and the gradients of the shares sum to its gradient. Where there is one process, its share is all of it.
"""
