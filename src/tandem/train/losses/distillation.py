"""What a teacher of sentences adds to the objective (Hinton et al. 2015).

Letters: n pictures, m sentences, e the teacher's dimension; capitals: of all processes.
"""

import torch.nn.functional as F
from torch import Tensor


def soften(targets: Tensor, sentences: Tensor, share: float, temperature: float) -> Tensor:
    """Give `share` of each picture's target to the sentences that a teacher finds close to its own ones.

    targets [N M], sentences [M e]: the teacher's unit vectors -> [N M], rows of sum 1.
    """
    hard = targets / targets.sum(1, keepdim=True)
    similarity = hard @ (sentences @ sentences.T)  # [N M], a picture stands where its sentences stand
    return (1 - share) * hard + share * F.softmax(similarity / temperature, dim=1)


def distillation_loss(students: Tensor, teachers: Tensor, total: int | None = None) -> Tensor:
    """This process's share of the mean of 1 - cosine.

    students [m e], of any length; teachers [m e], of unit length. total: sentences of all processes; None: m.
    """
    distances = 1 - (F.normalize(students, dim=-1) * teachers).sum(-1)  # [m]
    return distances.sum() / (len(distances) if total is None else total)
