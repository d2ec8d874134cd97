"""Images as users hold them, arrays, Pillow images, tensors and files, as pixels (H, W, 3) uint8 RGB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from blda.data.readers.decoding import read_image
from blda.data.readers.walk import IMAGE_SUFFIXES

_ONE_CHANNEL = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
"""Pillow's modes of images without colours."""
Picture = np.ndarray | Image.Image | Tensor | str | os.PathLike
"""One image: array (H, W, 3) uint8, Pillow image in RGB, tensor (3, H, W), or the path of an image file."""


def pictures(given: Any) -> list[Any]:
    """Return several images as a list: of a list, a tuple, or a batch (B, ...) in one array or tensor.

    Raises ValueError for none.
    """
    if len(given) == 0:
        raise ValueError("predict got no image; give an image, or a list of at least one")
    return list(given)


def is_several(given: Any) -> bool:
    """Tell whether `predict` was given several images rather than one."""
    return isinstance(given, list | tuple) or (isinstance(given, np.ndarray | Tensor) and given.ndim == 4)


def pixels_of(given: Picture) -> np.ndarray:
    """Convert one image to (H, W, 3) uint8; files and Pillow images are turned upright by their EXIF orientation.

    Raises ValueError naming what is wrong with it and the fix.
    """
    if isinstance(given, np.ndarray):
        return _of_array(given)
    if isinstance(given, Tensor):
        return _of_tensor(given)
    if isinstance(given, Image.Image):
        return _of_pillow(given)
    if isinstance(given, str | os.PathLike):
        return _of_file(Path(given))
    raise ValueError(f"an image is a {type(given).__name__}; give an array, a Pillow image, a tensor or a path")


def _of_array(array: np.ndarray) -> np.ndarray:
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"an array has shape {array.shape}; {_channels(array.shape, -1) or 'give (H, W, 3)'}")
    if array.dtype != np.uint8:
        raise ValueError(f"an array is {array.dtype}; give uint8, 0 to 255: (255 * image).round().astype('uint8')")
    return np.ascontiguousarray(_not_empty(array))


def _of_pillow(image: Image.Image) -> np.ndarray:
    if image.mode != "RGB":
        raise ValueError(f"a Pillow image has the mode {image.mode}; give image.convert('RGB')")
    return _not_empty(np.array(ImageOps.exif_transpose(image)))


def _of_tensor(tensor: Tensor) -> np.ndarray:
    """Convert (3, H, W) to pixels; floats are rounded to 8 bits, which gives back those of an image file."""
    shape = tuple(tensor.shape)
    if len(shape) != 3 or shape[0] != 3:
        raise ValueError(f"a tensor has shape {shape}; {_channels(shape, 0) or 'give (3, H, W)'}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = _bytes(_not_empty(tensor).float())
    elif tensor.dtype != torch.uint8:
        raise ValueError(f"a tensor is {tensor.dtype}; give uint8 from 0 to 255, or floats from 0 to 1")
    return np.ascontiguousarray(_not_empty(tensor).permute(1, 2, 0).numpy())


def _bytes(tensor: Tensor) -> Tensor:
    low, high = tensor.min().item(), tensor.max().item()
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        fix = "divide by 255" if low >= 0 and high <= 255 else "give floats from 0 to 1; the network normalises itself"
        raise ValueError(f"a tensor of floats reaches from {low:g} to {high:g}; {fix}")
    return (tensor.clamp(0, 1) * 255).round().byte()


def _of_file(path: Path) -> np.ndarray:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a list of its images, or use blda_video.predict")
    if path.suffix and path.suffix.lower() not in IMAGE_SUFFIXES and path.is_file():
        raise ValueError(f"{path} is no image ({' '.join(IMAGE_SUFFIXES)}); predict a video by blda_video.predict")
    pixels = read_image(path)
    if _mode(path) in _ONE_CHANNEL:
        raise ValueError(
            f"{path} is an image of one channel, such as a label map; if it is a picture, give "
            "Image.open(path).convert('RGB')"
        )
    return pixels


def _mode(path: Path) -> str:
    """Return Pillow's name of a file's channels; empty for a format that only OpenCV reads."""
    try:
        with Image.open(path) as image:
            return image.mode
    except OSError:
        return ""


def _not_empty(pixels: Any) -> Any:
    if 0 in pixels.shape:
        raise ValueError(f"an image has shape {tuple(pixels.shape)} and no pixel; leave it out")
    return pixels


def _channels(shape: tuple[int, ...], axis: int) -> str:
    """Say how an image of another number or place of channels becomes one of three; empty if that is not its fault."""
    last = axis == -1
    if len(shape) == 2 or (len(shape) == 3 and shape[axis] == 1):
        return f"an image of one channel; repeat it three times, to {'(H, W, 3)' if last else '(3, H, W)'}"
    if len(shape) == 3 and shape[axis] == 4:
        return f"a fourth channel, such as alpha, is not used; give image{'[..., :3]' if last else '[:3]'}"
    if len(shape) == 3 and shape[0 if last else -1] == 3:
        return "its channels come first; give image.transpose(1, 2, 0)" if last else "give image.permute(2, 0, 1)"
    return ""
