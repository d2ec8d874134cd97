"""A network that also says what its encoder made of the image."""

from __future__ import annotations

from torch import Tensor, nn

from blda.models.output import Features, Output


class FeatureTap(nn.Module):
    """A network whose `Output` has `features` too: those of the first call of its encoder in a forward.

    segmenter: the network; image (B, 3, H, W) -> logits or Output. encoder: the one inside it. One that is called
    several times a forward, as in HRDA, sees the context first. Only training goes through here.
    """

    def __init__(self, segmenter: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter
        self._encoder = (encoder,)  # in a tuple, as its parameters are the segmenter's already

    def forward(self, image: Tensor) -> Output:
        calls: list[Features] = []

        def keep(_: nn.Module, arguments: tuple[Tensor, ...], levels: list[Tensor]) -> None:
            if not calls:
                calls.append(Features(arguments[0].detach(), levels[-1]))

        # For this forward alone: the teacher and the evaluation must not hold features that nobody wants.
        hook = self._encoder[0].register_forward_hook(keep)
        try:
            output = self.segmenter(image)
        finally:
            hook.remove()
        output = output if isinstance(output, Output) else Output(output)
        return output._replace(features=calls[0])
