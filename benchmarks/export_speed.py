"""Export networks to ONNX, and compare onnxruntime with torch: largest difference and time of an image; prints JSON.

    python benchmarks/export_speed.py [--size 256 512] [--repeats 5] [--networks NAME ...]

One thread each, CPU time of the process, in turns in one process; milliseconds are medians, `ratio` is the median over
the turns of onnxruntime / torch. Random weights, scaled so that the largest logit is about 20; 19 classes.
Needs: pip install '.[export]'.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from blda.balance.alignment import alignment
from blda.balance.logit_statistics import LogitStatistics
from blda.build.network_factory import HEADS, network
from blda.calibration.calibration_file import Calibration
from blda.config.schema import Hrda, Model
from blda.deploy.export_formats import Onnx
from blda.deploy.exportable_network import INPUT, TrainedNetwork
from blda.deploy.network_export import Size, example, export
from blda.engine.inference import Predictor
from blda.models.segmenter import Segmenter
from runs import circumstances

CLASSES = tuple(f"class {i}" for i in range(19))
MIT = {"name": "mit", "variant": "b0"}
REAL_TIME = ("lcnet_050", "lcnet_100", "mobilenetv3_small_100", "mobilenetv4_conv_small", "tf_efficientnet_lite0")
LARGEST = 20.0
SEGFORMER, DAFORMER = {"name": "segformer"}, {"name": "daformer"}
CALIBRATED = "SegFormer MiT-B0, calibrated"
NETWORKS = {
    "SegFormer MiT-B0": Model(MIT, SEGFORMER),
    CALIBRATED: Model(MIT, SEGFORMER),
    "DAFormer MiT-B0": Model(MIT, DAFORMER),
    "DeepLab-v2 ResNet-50": Model({"name": "resnet", "depth": 50}, {"name": "deeplab_v2"}),
    "HRDA MiT-B0": Model(MIT, DAFORMER, Hrda()),
    "SegFormer DINOv2-S": Model({"name": "vit_pyramid", "model": "vit_small_patch14_dinov2"}, SEGFORMER),
    "DAFormer EfficientNet-lite0": Model({"name": "timm", "model": "tf_efficientnet_lite0"}, DAFORMER),
    **{
        f"narrow SegFormer {name}": Model({"name": "timm", "model": name}, {**SEGFORMER, "embed": 128})
        for name in REAL_TIME
    },
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", nargs=2, type=int, default=(256, 512), metavar=("H", "W"))
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    given = arguments.parse_args()
    torch.set_num_threads(1)
    setting = {"onnxruntime": version(), "threads": 1, "size": list(given.size)}
    found = {name: compared(name, tuple(given.size), given.repeats) for name in given.networks}
    print(json.dumps({**circumstances("cpu"), **setting, "networks": found}, indent=1))


def version() -> str:
    import onnxruntime

    return onnxruntime.__version__


def compared(name: str, size: Size, repeats: int) -> dict[str, float]:
    """Export a network, and compare its file with it."""
    net, calibration = segmenter(NETWORKS[name], size), None
    predict = Predictor(net)
    logits = predict(example(1, size))
    if name == CALIBRATED:
        calibration = fitted(logits)
    predict = Predictor(net, calibration=calibration)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        start = time.process_time()
        check = export(TrainedNetwork(net, CLASSES, calibration), Onnx(), size, path)
        took = time.process_time() - start
        times = alternated({"torch": predict, "onnxruntime": one_thread(path)}, example(1, size), repeats)
    ratio = statistics.median(a / b for a, b in zip(times["onnxruntime"], times["torch"], strict=True))
    return {
        "largest_difference": check.largest,
        "largest_logit": round(logits.abs().max().item(), 1),
        "megabytes": round(check.bytes / 1e6, 1),
        "export_s": round(took, 1),
        **{f"{runtime}_ms": round(1e3 * statistics.median(each), 1) for runtime, each in times.items()},
        "ratio": round(ratio, 3),
    }


def segmenter(model: Model, size: Size) -> Segmenter:
    """Build a network of random weights whose logits are as large as a trained network's, up to LARGEST."""
    torch.manual_seed(0)
    net = network(model, len(CLASSES), False, HEADS, Segmenter, size).eval()
    with torch.no_grad():
        scale = LARGEST / net(example(1, size)).abs().max()
        for module in net.head.modules():
            if isinstance(module, nn.Conv2d) and module.out_channels == len(CLASSES):
                module.weight *= scale
    return net


def fitted(logits: Tensor) -> Calibration:
    """Fit a calibration to logits as if their predictions were labels, and shifted logits were the source's."""
    domains = [LogitStatistics(len(CLASSES), min_pixels=1) for _ in range(2)]
    for statistics_of, shift in zip(domains, (0.0, 1.0), strict=True):
        statistics_of.update(logits + shift * torch.arange(len(CLASSES)).view(1, -1, 1, 1) / 4, logits.argmax(1))
    return Calibration(alignment(*domains), 0.5, CLASSES)


def one_thread(path: Path) -> Callable[[Tensor], object]:
    """Load a file in onnxruntime with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {INPUT: image.numpy()})


def alternated(models: Mapping[str, Callable], image: Tensor, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each model, in turns; the first turn only warms up."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats + 1):
        for name, model in models.items():
            start = time.process_time()
            model(image)
            times[name].append(time.process_time() - start)
    return {name: each[1:] for name, each in times.items()}


if __name__ == "__main__":
    main()
