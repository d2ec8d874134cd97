"""Distributions of logits per class, estimated during training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch import distributed as dist

from blda.balance import logit_grid, pixels
from blda.balance.gaussian_mixture import Mixture, cdf, em_step
from blda.balance.kernels.choice import kernels, mixtures
from blda.balance.soft_counting import sampled_labels
from blda.data.batches import PseudoLabels
from blda.data.sample import IGNORE

EM_ITERATIONS = 3
ANCHORS = 2  # row 0: all positive logits, row 1: all negative ones

MOST_WEIGHT = 2**15
"""Largest weight of a pixel: its units fit into 32 bits, and sums of units are exact."""

MOST_ELEMENTS = 2**24
"""Largest number of elements of a temporary; more cells are fitted in chunks."""


class LogitStatistics(nn.Module):
    """C x C mixtures of K Gaussians and the two anchors of one domain (METHOD 3).

    Cell (c, l) describes logit channel l over the pixels labelled c. All values are buffers, which are saved, restored
    and moved with the module. They are equal on all processes, because histograms are summed over processes.

    num_classes: number of classes C.
    components: number of Gaussians K of each mixture.
    momentum: largest weight of the past in the average.
    warmup: number of updates until the momentum is reached.
    min_pixels: a class with fewer pixels in a batch keeps its row.
    seed: seed of the random initial means.
    soft_counting: count a pseudo-labelled pixel for a class sampled from the teacher's probabilities instead of its
        likeliest class. The likeliest class was chosen by the very logits that are counted, which makes positive logits
        look larger, and negative ones smaller, than they are.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    anchor_weights: Tensor
    anchor_means: Tensor
    anchor_variances: Tensor
    estimated: Tensor
    absent: Tensor
    updates: Tensor

    def __init__(
        self,
        num_classes: int,
        components: int = 5,
        momentum: float = 0.99,
        warmup: int = 1500,
        min_pixels: int = 100,
        seed: int = 0,
        soft_counting: bool = False,
    ) -> None:
        super().__init__()
        _require(num_classes, components, momentum, warmup, min_pixels)
        self.num_classes, self.momentum, self.warmup, self.min_pixels = num_classes, momentum, warmup, min_pixels
        self.soft_counting = soft_counting
        generator = torch.Generator().manual_seed(seed)
        for prefix, shape in (("", (num_classes, num_classes, components)), ("anchor_", (ANCHORS, components))):
            self.register_buffer(f"{prefix}weights", torch.full(shape, 1 / components))
            self.register_buffer(f"{prefix}means", torch.randn(shape, generator=generator))
            self.register_buffer(f"{prefix}variances", torch.ones(shape))
        # Entries of all rows, then of both anchors: whether it was ever estimated, and updates since its last fit.
        self.register_buffer("estimated", torch.zeros(num_classes + ANCHORS, dtype=torch.bool))
        self.register_buffer("absent", torch.ones(num_classes + ANCHORS, dtype=torch.int64))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def mixture(self) -> Mixture:
        """Class mixtures, (C, C, K)."""
        return Mixture(self.weights, self.means, self.variances)

    @property
    def anchors(self) -> Mixture:
        """Anchors, (2, K): row 0 of positive, row 1 of negative logits."""
        return Mixture(self.anchor_weights, self.anchor_means, self.anchor_variances)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogitStatistics:
        """Move the buffers, but keep their types: a network that is cast to half precision may hold statistics."""

        def moved(buffer: Tensor) -> Tensor:
            result = fn(buffer)
            return result if result.dtype == buffer.dtype else buffer.to(result.device)

        return super()._apply(moved, recurse)

    @torch.no_grad()
    def histogram(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Count the logits of every cell: histograms (C, C, BINS) float64, additive over images, frames and processes.

        logits: (B, C, *S) of any float type: (B, C, H, W) of images, (B, C) of an image classifier. Pixels with a NaN
            are not counted.
        labels: (B, *S); IGNORE is not counted.
        weight: weights of the pixels, (B, *S) >= 0; None for 1.
        Raises ValueError for other shapes, for labels that are not classes, and for weights that are negative or above
        MOST_WEIGHT.
        """
        labels = pixels.checked(logits, labels, self.num_classes)
        weight = pixels.weights_of(weight, labels)
        if weight is not None and weight.device.type == "cpu" and not ((weight >= 0) & (weight <= MOST_WEIGHT)).all():
            raise ValueError(f"weights of pixels are outside [0, {MOST_WEIGHT}]; give weights within it")
        compiled = kernels(logits.device.type)
        if compiled is None:
            row = torch.where(pixels.known(labels, self.num_classes), labels, -1)
            return _count(logits, row, logit_grid.in_units(weight, labels))
        maps = pixels.flat_map(labels), None if weight is None else pixels.flat_map(weight)
        return compiled.count(pixels.flat_logits(logits), *maps)

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, pseudo: PseudoLabels | None = None) -> None:
        """Count the logits of this step on all processes, fit the mixtures to them, and average with the past.

        logits: (B, C, *S).
        labels: (B, *S), IGNORE for pixels of the other domain or without a label.
        pseudo: the pseudo-labels that the labels are from; None for true labels.
        """
        counts = self._gather(logits, self._counted(labels, pseudo), pseudo)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
        self.fit(counts)

    @torch.no_grad()
    def bias(self) -> Tensor:
        """Estimate Bias(l) = 1/C sum_c P(argmax = l | y = c) - 1/C without labels: (C,) (METHOD 1, paper 3.3.2).

        The C logits of a row are assumed to be independent. So P(argmax = l | c) is the integral of the density of cell
        (c, l) times the distribution functions of the other cells of the row. Rows never estimated are left out of the
        mean; the bias is zero while no row is estimated.
        """
        cdf_values = cdf(self.mixture, logit_grid.nodes(self.means.device)).clamp_min(1e-12)
        middle = (cdf_values[..., 1:] + cdf_values[..., :-1]) / 2
        others = (middle.log().sum(1, keepdim=True) - middle.log()).exp()
        winner = (others * cdf_values.diff(dim=-1)).sum(-1)
        rows = self.estimated[: self.num_classes, None]
        winner = torch.where(rows, winner / winner.sum(1, keepdim=True).clamp_min(1e-12), 0.0)
        return torch.where(rows.any(), winner.sum(0) / rows.sum().clamp_min(1) - 1 / self.num_classes, 0.0)

    def _gather(self, logits: Tensor, labels: Tensor, pseudo: PseudoLabels | None) -> Tensor:
        """Count the logits of this process; video statistics add those of other frames."""
        return self.histogram(logits, labels)

    def _counted(self, labels: Tensor, pseudo: PseudoLabels | None) -> Tensor:
        """Return the labels to count pixels for: the labels themselves, or samples of the teacher's probabilities."""
        if not self.soft_counting or pseudo is None:
            return labels
        if pseudo.probabilities is None:
            raise ValueError(
                "blda.by_belief: pseudo-labels have no probabilities; make them with keep_probabilities=True"
            )
        return torch.where(labels == IGNORE, IGNORE, sampled_labels(pseudo.probabilities, self.updates))

    def _histograms(self, counts: Tensor) -> Tensor:
        """Return histograms as float64; ValueError for another shape or device."""
        shape = (self.num_classes, self.num_classes, logit_grid.BINS)
        if counts.shape != shape or counts.is_complex():
            raise ValueError(f"histograms {tuple(counts.shape)} are not {shape}; give those that `histogram` returns")
        pixels.same_device("histograms", counts, self.means)
        return counts.double()

    @torch.no_grad()
    def fit(self, counts: Tensor, iterations: int = EM_ITERATIONS) -> None:
        """Fit the mixtures to histograms (C, C, BINS), starting from the old ones, and average with them (METHOD 3)."""
        counts = self._histograms(counts)
        compiled = mixtures(counts.device.type)
        if hasattr(compiled, "advance"):
            history = (self.estimated.view(torch.int8), self.absent, self.updates)
            settings = compiled.Settings(self.momentum, self.warmup, self.min_pixels)
            compiled.advance(compiled.State(self.mixture, self.anchors, *history), counts, settings, iterations)
            return
        positive = torch.diagonal(counts).sum(-1)
        anchors = torch.stack((positive, counts.sum((0, 1)) - positive))
        fed = torch.cat((counts[:, 0].sum(-1), anchors.sum(-1))) >= self.min_pixels
        warm = (self.updates / self.warmup).clamp(max=1) if self.warmup else torch.ones((), device=fed.device)
        past = torch.where(self.estimated, (self.momentum * warm) ** self.absent, 0.0).float()
        for kept, histograms, rows in (
            (self.mixture, counts, slice(self.num_classes)),
            (self.anchors, anchors, slice(self.num_classes, None)),
        ):
            shape = (-1, *[1] * (kept.means.ndim - 1))
            fitted = _fitted(kept, histograms, fed[rows], iterations)
            self._average(kept, fitted, past[rows].view(shape), fed[rows].view(shape))
        self.estimated |= fed
        self.absent.copy_(torch.where(fed, 1, self.absent + 1))
        self.updates += 1

    @staticmethod
    def _average(old: Mixture, new: Mixture, past: Tensor, fed: Tensor) -> None:
        for kept, fresh in zip(old, new, strict=True):
            kept.copy_(torch.where(fed, torch.lerp(fresh, kept, past), kept))


def _require(num_classes: int, components: int, momentum: float, warmup: int, min_pixels: int) -> None:
    """Raise ValueError for settings outside their range."""
    if not 0 < num_classes <= IGNORE:
        raise ValueError(f"{num_classes} classes; use 1 to {IGNORE}, as label {IGNORE} is an ignored pixel")
    if components < 1 or not 0 <= momentum <= 1 or warmup < 0 or min_pixels < 0:
        raise ValueError(
            f"statistics: components {components}, momentum {momentum}, warmup {warmup}, min_pixels {min_pixels}; "
            "use components of at least 1, a momentum in [0, 1], and at least 0 for the others"
        )


def _fitted(mixture: Mixture, counts: Tensor, fed: Tensor, iterations: int) -> Mixture:
    """Run EM on counts (R, ..., BINS), and return the new mixtures (R, ..., K).

    fed: (R,) bool, rows with enough pixels; on a CPU, other rows keep their mixtures.
    """
    compiled = mixtures(counts.device.type)
    if compiled is not None:
        return compiled.fit(mixture, counts, iterations, fed)
    fitted = Mixture(*(field.clone() for field in mixture))
    values, rows = logit_grid.nodes(counts.device), torch.arange(len(counts), device=counts.device)
    if counts.device.type == "cpu":
        # Bins without counts only cost time; on a GPU, finding them would make the host wait for the device.
        occupied = counts.flatten(0, -2).any(0)
        values, counts, rows = values[occupied], counts[..., occupied], rows[fed]
    row_size = max(1, counts[0].numel() * mixture.means.shape[-1])
    for chunk in rows.split(max(1, MOST_ELEMENTS // row_size)):
        cells = Mixture(*(field[chunk] for field in mixture))
        for _ in range(iterations):
            cells = em_step(cells, values, counts[chunk])
        for field, new in zip(fitted, cells, strict=True):
            field[chunk] = new
    return fitted


def _count(logits: Tensor, row: Tensor, units: Tensor) -> Tensor:
    """Counts (C, C, BINS) float64 in plain torch; as the compiled `count`, of any shapes (B, C, *S) and (B, *S)."""
    num_classes = logits.shape[1]
    # Uncounted pixels go to a spare row: a mask would make the size depend on the data and wait for the device.
    row = torch.where((row < 0) | logits.isnan().any(1), num_classes, row)
    row, column = pixels.spread(row, logits)
    cell = (row * num_classes + column) * logit_grid.BINS + logit_grid.position(logits).add_(0.5).long()
    # Not bincount, which makes the host wait for the largest index.
    counts = torch.zeros((num_classes + 1) * num_classes * logit_grid.BINS, dtype=torch.int64, device=logits.device)
    counts.index_add_(0, cell.flatten(), units[:, None].expand(cell.shape).flatten())
    return counts.view(num_classes + 1, num_classes, logit_grid.BINS)[:num_classes].double() / logit_grid.UNITS
