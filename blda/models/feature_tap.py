"""A wrapper that returns the encoder's features beside the logits."""

from __future__ import annotations

from torch import Tensor, nn

from blda.models.output import Features, Output


class FeatureTap(nn.Module):
    """A network whose `Output` also holds `features`, those of the first call of its encoder in a forward.

    HRDA calls its encoder several times a forward, with the context first. The wrapper is used in training only.

    segmenter: the network, images (B, 3, H, W) -> logits or `Output`.
    encoder: the encoder inside `segmenter`.
    projection: head on the coarsest level, whose output is `Output.projected`; None for none.
    """

    def __init__(self, segmenter: nn.Module, encoder: nn.Module, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.segmenter, self.projection = segmenter, projection
        self._encoder = (encoder,)  # in a tuple, which does not register its parameters a second time

    def forward(self, image: Tensor) -> Output:
        calls: list[Features] = []

        def keep(_: nn.Module, arguments: tuple[Tensor, ...], levels: list[Tensor]) -> None:
            if not calls:
                calls.append(Features(arguments[0].detach(), levels[-1]))

        # The hook is removed after this forward: teacher and evaluation must not keep features in memory.
        hook = self._encoder[0].register_forward_hook(keep)
        try:
            output = self.segmenter(image)
        finally:
            hook.remove()
        output = output if isinstance(output, Output) else Output(output)
        projected = None if self.projection is None else self.projection(calls[0].last)
        return output._replace(features=calls[0], projected=projected)
