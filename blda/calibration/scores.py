"""Balanced scores of a trained network's logits (METHOD 2, post-hoc)."""

from __future__ import annotations

import torch
from torch import Tensor

from blda.balance import logit_grid, pixels
from blda.balance.alignment import Alignment, stacked
from blda.balance.kernels.choice import scoring

ELEMENTS = 2**21
"""Corrected logits at a time, of all candidates and channels, which bounds the memory: 8 MB."""


@torch.no_grad()
def scores(logits: Tensor, alignment: Alignment, tau: float) -> Tensor:
    """Compute a score for every class; the class of the largest is the calibrated prediction (METHOD 2, post-hoc).

        score_c = log softmax_l( z_l + tau * Delta_cl(z_l) )[c]

    The score of candidate class c corrects the whole logit vector with row c of the alignment. Exponentials of the
    scores do not sum to one.

    logits: (B, C, H, W) or (B, C), any float type.
    alignment: alignment of the domain's cells to the anchors.
    tau: strength of the correction.
    Returns float32 of the same shape; exactly log softmax for tau 0 and for rows that were never estimated. Infinite
    logits are not corrected, so a class that is ruled out by -inf stays ruled out.
    """
    pixels.check_logits(logits, len(alignment.active))
    alignment = stacked([alignment], logits.shape[1])
    pixels.same_device("alignment", alignment.lookup, logits)
    plain = logits.float().log_softmax(1)
    if tau == 0:
        return plain
    corrected = _corrected(logits.float(), alignment, tau)
    return torch.where(alignment.active.view(-1, *[1] * (logits.dim() - 2)), corrected, plain)


def _corrected(logits: Tensor, alignment: Alignment, tau: float) -> Tensor:
    """Compute the scores with every row corrected, as if all were estimated; compiled if there is a kernel for it."""
    compiled = scoring(logits.device.type)
    if compiled is not None and logits.isfinite().all():
        found = compiled.scores(pixels.flat_logits(logits), *alignment, tau)
        return found[0].t() if logits.ndim == 2 else found.view(logits.shape)
    vectors = logits.movedim(1, -1)
    chunks = vectors.flatten(0, -2).split(max(1, ELEMENTS // logits.shape[1] ** 2))
    corrected = torch.cat([_candidates(chunk, alignment.lookup, tau) for chunk in chunks])
    return corrected.view(vectors.shape).movedim(-1, 1)


def _candidates(logits: Tensor, lookup: Tensor, tau: float) -> Tensor:
    """Compute the scores of logits (N, C) with every row corrected, as if all were estimated.

    Channels are corrected one after the other, for all candidates at once. In the transposed lookup table of a channel
    the candidates are adjacent in memory, so the C x C corrections of a pixel read C places.
    """
    place = logit_grid.position(logits)
    left = place.long().clamp_max_(logit_grid.BINS - 2)
    place.sub_(left)
    # An infinite logit stays what it is: a finite number of steps leads nowhere from it.
    start = torch.where(logits.isfinite(), logits, 0.0)
    aligned = logits.new_empty(logits.shape[1], *logits.shape)
    for channel, moved in enumerate(aligned):
        rows = lookup[:, channel].t().contiguous()
        here = left[:, channel]
        torch.lerp(rows[here], rows[here + 1], place[:, channel, None], out=moved)
        moved.sub_(start[:, channel, None]).mul_(tau).add_(logits[:, channel, None])
    return aligned.diagonal(dim1=0, dim2=2) - aligned.logsumexp(0)
