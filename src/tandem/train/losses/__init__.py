"""The objectives of training: arithmetic on vectors. Knows no model, no device and no process.

Every loss here is a **share**: what this process adds to the loss on the whole batch. The shares of all processes sum
to that loss, and the gradients of the shares sum to its gradient. Where there is one process, its share is all of it.
"""

from tandem.train.losses.contrastive import contrastive_loss
from tandem.train.losses.distillation import distillation_loss, soften
from tandem.train.losses.joining import Gather
from tandem.train.losses.sigmoid import sigmoid_loss

__all__ = ["Gather", "contrastive_loss", "distillation_loss", "sigmoid_loss", "soften"]
