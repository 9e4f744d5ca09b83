"""What a gradient is taken of: how views answer to the goals. Arithmetic on vectors of unit length alone.

Shapes: n views, g goals, a goals to stay away from, b common sentences, d the shared dimension.
"""

import torch
from torch import Tensor
from torch.nn import functional

from tandem.guidance.goals import Goals

NEGATIVE_WEIGHT = 4.5  # of the cross-entropy, in units of a cosine


class Objective:
    """Texts: views should answer to common sentences as the text itself would, and be near to it.

    A plain cosine finds pictures that answer to everything, since some texts are near to all pictures. So a text's term
    is a cross-entropy too, against common sentences; its target is the softmax of the texts' own cosines, so that a
    sentence that says the same is no rival. Of pictures, the cosine alone counts.
    """

    def __init__(self, goals: Goals, logit_scale: float) -> None:
        self.scale = logit_scale
        self.toward = torch.tensor(goals.toward_vectors)
        self.negatives = torch.tensor(goals.negative_vectors)
        self.away = torch.tensor(goals.away_vectors)
        weights = torch.tensor([goal.weight for goal in goals.toward])
        self.weights = weights / weights.sum()
        self.away_weights = torch.tensor([goal.weight for goal in goals.away])
        self.is_text = [goal.is_text for goal in goals.toward]

    def __call__(self, vectors: Tensor) -> Tensor:
        """vectors [n d] of views -> the loss []."""
        to_negatives = vectors @ self.negatives.T  # [n b]
        to_away = vectors @ self.away.T  # [n a]
        loss = vectors.new_zeros(())
        for goal, weight, is_text in zip(self.toward, self.weights, self.is_text, strict=True):
            cosine = vectors @ goal  # [n]
            term = -cosine.mean()
            if is_text:
                own = torch.cat([goal[None], self.negatives]) @ goal  # [1+b]
                wanted = torch.cat([torch.softmax(self.scale * own, dim=0), own.new_zeros(self.away.shape[0])])
                logits = self.scale * torch.cat([cosine[:, None], to_negatives, to_away], dim=1)
                answers = functional.log_softmax(logits, dim=1)
                term = term - NEGATIVE_WEIGHT / self.scale * (answers @ wanted).mean()
            loss = loss + weight * term
        # No nearer to what is unwanted than to any common sentence
        excess = functional.relu(to_away - to_negatives.mean(dim=1, keepdim=True)).mean(dim=0)  # [a]
        return loss + (self.away_weights * excess).sum()
