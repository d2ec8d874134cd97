import importlib.util
import pickle
import sys

import numpy as np
import pytest
import torch

from blda_video.flow import mmflow
from blda_video.flow.correlation import Correlation
from blda_video.flow.mmflow import MMFlow, Preparation, imported

INSTALLED = all(importlib.util.find_spec(name) for name in ("mmflow", "mmcv"))
extra = pytest.mark.skipif(not INSTALLED, reason=f"the extra is not installed: {mmflow.INSTALL}")
NETWORKS = {
    "raft": "raft_8x2_100k_flyingchairs_368x496",
    "pwcnet": "pwcnet_8x1_slong_flyingchairs_384x448",
    "flownet2": "flownet2_8x1_slong_flyingchairs_384x448",
    "liteflownet": "liteflownet_ft_4x1_500k_sintel_384x768",
    "irrpwc": "irrpwc_ft_4x1_300k_kitti_320x896",
}


def directly(a, b, kernel_size, max_displacement, stride, padding, dilation, dilation_patch):
    """The definition, number by number."""
    n, channels, height, width = a.shape
    span = 2 * max_displacement + 1
    reach = dilation * (kernel_size - 1) + 1
    rows, columns = ((side + 2 * padding - reach) // stride + 1 for side in (height, width))
    out = np.zeros((n, span, span, rows, columns))

    def at(maps, y, x):
        return maps[:, :, y, x] if 0 <= y < height and 0 <= x < width else np.zeros((n, channels))

    for p, q, i, j, k, m in np.ndindex(span, span, rows, columns, kernel_size, kernel_size):
        y, x = i * stride - padding + k * dilation, j * stride - padding + m * dilation
        down, right = ((d - max_displacement) * dilation_patch for d in (p, q))
        out[:, p, q, i, j] += (at(a, y, x) * at(b, y + down, x + right)).sum(1)
    return out


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 2, 1, 0, 1, 1),  # PWC-Net and LiteFlowNet
        (1, 2, 1, 0, 1, 2),  # FlowNetC
        (1, 1, 2, 0, 1, 1),  # LiteFlowNet's coarse levels
        (3, 1, 2, 1, 1, 1),
        (3, 1, 1, 2, 2, 3),
    ],
)
def test_correlation_equals_its_definition(arguments):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 3, 6, 7, generator=generator, dtype=torch.float64)
    found = Correlation(*arguments)(a, b)
    np.testing.assert_allclose(found.numpy(), directly(a.numpy(), b.numpy(), *arguments), atol=1e-12)


def test_the_largest_correlation_is_at_the_displacement():
    a = torch.randn(1, 128, 12, 14, generator=torch.Generator().manual_seed(0))
    b = a.roll((1, -2), (2, 3))  # what is at (y, x) in a is at (y + 1, x - 2) in b
    best = Correlation(max_displacement=3)(a, b)[0, :, :, 4:-4, 4:-4].flatten(0, 1).argmax(0)
    assert (best == (3 + 1) * 7 + (3 - 2)).all()


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    with pytest.raises(
        ValueError, match=r"mmflow is not installed.*setuptools<81.*pip install mmflow==0\.5\.2 mmcv==1\.7\.2"
    ):
        MMFlow("raft_8x2_100k_flyingchairs_368x496", "raft.pth")


def test_a_missing_operator_is_refused_only_where_it_is_needed():
    module = mmflow.stand_in()
    assert module.Correlation is Correlation
    with pytest.raises(ValueError, match="mmcv-full"):
        module.DeformConv2d(1, 2, 3)


def checkpoint(path, name):
    """A file as mmflow writes it, of small random weights that take no space: one number a tensor."""
    mmcv, models = imported()
    settings = mmcv.Config.fromfile(str(mmflow.located(name)))
    settings.model.train_cfg = None
    generator = torch.Generator().manual_seed(0)
    state = {}
    with torch.device("meta"):
        shapes = models.build_flow_estimator(settings.model).state_dict()
    for key, value in shapes.items():
        if value.numel() < 10**6:
            number = 0.05 * torch.randn(value.shape, generator=generator)
        else:
            number = torch.tensor(1 / value[0].numel()).expand(value.shape)
        state[key] = number.abs() if key.endswith("running_var") else number.to(value.dtype)
    torch.save({"meta": {"mmflow_version": "0.5.2", "epoch": 1}, "state_dict": state}, path)
    return path


@extra
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_build_and_run_on_any_size(tmp_path, network):
    estimator = MMFlow(NETWORKS[network], checkpoint(tmp_path / "weights.pth", NETWORKS[network]))
    image = torch.rand(2, 3, 70, 100, generator=torch.Generator().manual_seed(0))
    flow = estimator(image, image.roll(3, 3))
    assert flow.shape == (2, 2, 70, 100) and flow.dtype == torch.float32 and flow.isfinite().all()
    assert flow.std() > 0
    alone = estimator(image[1:], image[1:].roll(3, 3))
    assert (flow[1:] - alone).abs().max() < 0.02 * flow.std(), "pairs of a batch do not mix"


@extra
def test_images_are_prepared_as_by_the_configs_own_pipeline():
    imported()
    from mmflow.datasets.pipelines import InputPad, InputResize, Normalize

    picture = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    for to_rgb, pads in ((False, True), (True, False)):
        normalise = {"mean": [1.0, 20.0, 127.5], "std": [255.0, 127.5, 60.0], "to_rgb": to_rgb}
        results = {"img1": picture[..., ::-1].astype(np.float32), "img2": picture[..., ::-1].astype(np.float32)}
        fit = (InputPad if pads else InputResize)(exponent=4)
        expected = Normalize(**normalise)(fit({**results, "img_fields": ["img1", "img2"]}))["img1"]
        found = Preparation(normalise, 16, pads).prepared(image)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_flow_comes_back_at_the_size_of_the_images():
    normalise = {"mean": [0.0] * 3, "std": [255.0] * 3, "to_rgb": True}
    resized = Preparation(normalise, 64, pads=False)
    assert resized.prepared(torch.rand(1, 3, 70, 100)).shape == (1, 3, 128, 128)
    flow = resized.restored(torch.ones(1, 2, 128, 128), (70, 100))
    torch.testing.assert_close(flow[0, :, 0, 0], torch.tensor([100 / 128, 70 / 128]))
    padded = Preparation(normalise, 8, pads=True)
    image = torch.rand(1, 3, 70, 101)
    assert torch.equal(padded.restored(padded.prepared(image), (70, 101)), image)


@extra
def test_travels_to_other_processes_by_its_files(tmp_path):
    name = NETWORKS["pwcnet"]
    estimator = MMFlow(name, checkpoint(tmp_path / "weights.pth", name))
    sent = pickle.dumps(estimator)
    assert len(sent) < 1000
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pickle.loads(sent)(image, image.roll(2, 3)), estimator(image, image.roll(2, 3)))


@extra
def test_bad_requests_name_the_fault(tmp_path):
    weights = checkpoint(tmp_path / "weights.pth", NETWORKS["pwcnet"])
    with pytest.raises(FileNotFoundError, match=r"no config 'pwcnet_8x1'; it has .*pwcnet_ft_4x1_300k_kitti_320x896"):
        MMFlow("pwcnet_8x1", weights)
    with pytest.raises(FileNotFoundError, match=r"mine\.py"):
        MMFlow(tmp_path / "mine.py", weights)
    (tmp_path / "mine.py").write_text("model = dict(type='PWCNet')")
    with pytest.raises(ValueError, match=r"mine\.py has no data\.test pipeline"):
        MMFlow(tmp_path / "mine.py", weights)
    with pytest.raises(ValueError, match=r"weights\.pth.*raft_8x2_100k_flyingchairs_368x496.*missing: context\."):
        MMFlow(NETWORKS["raft"], weights)
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        MMFlow(NETWORKS["pwcnet"], tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="resize"):
        MMFlow(NETWORKS["pwcnet"], weights)(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 48))
