import pickle
from urllib.error import URLError

import pytest
import torch
from torchvision.models.optical_flow import raft_large, raft_small

from blda_video.flow import raft
from blda_video.flow.raft import RAFT, padding, torchvision_names


class Names(dict):
    """Names of parameters and buffers -> shapes."""

    def conv(self, name, out, into, *kernel):
        self[f"{name}.weight"], self[f"{name}.bias"] = (out, into, *kernel), (out,)

    def norm(self, name, width):
        self.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        self[f"{name}.num_batches_tracked"] = ()

    def block(self, name, width, into, small, norms):
        """norms: names of the modules that are BatchNorm."""
        if small:
            self.conv(f"{name}.conv1", width // 4, into, 1, 1)
            self.conv(f"{name}.conv2", width // 4, width // 4, 3, 3)
            self.conv(f"{name}.conv3", width, width // 4, 1, 1)
        else:
            self.conv(f"{name}.conv1", width, into, 3, 3)
            self.conv(f"{name}.conv2", width, width, 3, 3)
        if width != into:
            self.conv(f"{name}.downsample.0", width, into, 1, 1)
        for norm in norms[: 4 if width != into else 2]:
            self.norm(f"{name}.{norm}", width)

    def encoder(self, name, widths, out, small, norms=()):
        self.conv(f"{name}.conv1", widths[0], 3, 7, 7)
        for norm in norms[:1]:
            self.norm(f"{name}.{norm}", widths[0])
        for layer, (into, width) in enumerate(zip((widths[0], *widths), widths, strict=False), 1):
            self.block(f"{name}.layer{layer}.0", width, into, small, norms)
            self.block(f"{name}.layer{layer}.1", width, width, small, norms)
        self.conv(f"{name}.conv2", out, widths[-1], 1, 1)

    def update_block(self, convolutions):
        for name, shape in convolutions.items():
            self.conv(f"update_block.{name}", *shape)


def names_of_authors(size):
    """Names and shapes of the authors' checkpoints, by the structure of their networks."""
    names = Names()
    if size == "small":
        names.encoder("fnet", (32, 64, 96), 128, True)
        names.encoder("cnet", (32, 64, 96), 160, True)
        names.update_block(SMALL | {f"gru.conv{gate}": (96, 242, 3, 3) for gate in "zrq"})
        return dict(names)
    names.encoder("fnet", (64, 96, 128), 256, False)
    names.encoder("cnet", (64, 96, 128), 256, False, ("norm1", "norm2", "norm3", "downsample.1"))
    gates = {f"gru.conv{gate}{n}": (128, 384, *k) for gate in "zrq" for n, k in ((1, (1, 5)), (2, (5, 1)))}
    names.update_block(LARGE | gates)
    return dict(names)


SMALL = {
    "encoder.convc1": (96, 196, 1, 1),
    "encoder.convf1": (64, 2, 7, 7),
    "encoder.convf2": (32, 64, 3, 3),
    "encoder.conv": (80, 128, 3, 3),
    "flow_head.conv1": (128, 96, 3, 3),
    "flow_head.conv2": (2, 128, 3, 3),
}
LARGE = {
    "encoder.convc1": (256, 324, 1, 1),
    "encoder.convc2": (192, 256, 3, 3),
    "encoder.convf1": (128, 2, 7, 7),
    "encoder.convf2": (64, 128, 3, 3),
    "encoder.conv": (126, 256, 3, 3),
    "flow_head.conv1": (256, 128, 3, 3),
    "flow_head.conv2": (2, 256, 3, 3),
    "mask.0": (256, 128, 3, 3),
    "mask.2": (576, 256, 1, 1),
}


def checkpoint_of_authors(size):
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in names_of_authors(size).items():
        twin = name.replace(".downsample.1.", ".norm3.")
        values = state.get(f"module.{twin}", 0.1 * torch.rand(shape, generator=generator))
        state[f"module.{name}"] = values.long() if name.endswith("tracked") else values
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.manual_seed(0)
    torch.save(raft_small().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def estimator(weights):
    return RAFT("small", weights, iterations=2)


def picture(height=128, width=144, shift=0):
    noise = torch.rand(1, 3, height // 4, (width + 32) // 4, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, size=(height, width + 32), mode="bicubic").clamp(0, 1)
    return smooth[..., 16 + shift : 16 + shift + width]


@pytest.mark.parametrize(("size", "network"), [("small", raft_small), ("large", raft_large)])
def test_every_name_of_the_authors_finds_its_place(size, network):
    state = {name.removeprefix("module."): tensor for name, tensor in checkpoint_of_authors(size).items()}
    own = {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in torchvision_names(state).items()} == own
    assert torchvision_names(dict.fromkeys(own, torch.zeros(()))).keys() == own.keys()


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_authors_checkpoint_fills_the_network(tmp_path, size):
    state = checkpoint_of_authors(size)
    torch.save(state, tmp_path / "raft.pth")
    network = RAFT(size, tmp_path / "raft.pth").network
    assert torch.equal(
        network.context_encoder.layer2[0].downsample[0].weight, state["module.cnet.layer2.0.downsample.0.weight"]
    )
    gate = network.update_block.recurrent_block.convgru1.convq.bias
    assert torch.equal(
        gate, state["module.update_block.gru.convq.bias" if size == "small" else "module.update_block.gru.convq1.bias"]
    )


def test_the_list_of_names_is_that_of_the_official_file(shared):
    path = shared / "weights/raft_small.pth"
    if not path.is_file():
        pytest.skip(f"no official weights at {path}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        f"module.{name}": shape for name, shape in names_of_authors("small").items()
    }


def test_official_weights_find_a_translation(shared):
    path = shared / "weights/raft_small.pth"
    if not path.is_file():
        pytest.skip(f"no official weights at {path}")
    flow = RAFT("small", path, iterations=6)(picture(), picture(shift=-3))
    inner = flow[..., 16:-16, 16:-16]
    assert (inner[:, 0] - 3).abs().mean() < 0.3 and inner[:, 1].abs().mean() < 0.3
    small = RAFT("small", path, iterations=6)(picture(64, 80), picture(64, 80, shift=-3))
    inner = small[..., 8:-8, 8:-8]
    assert (inner[:, 0] - 3).abs().mean() < 0.5, "enlarged images, shrunk vectors"


@pytest.mark.parametrize("size", [(128, 128), (131, 150), (40, 56), (20, 33)])
def test_any_size(estimator, size):
    generator = torch.Generator().manual_seed(0)
    flow = estimator(torch.rand(2, 3, *size, generator=generator), torch.rand(2, 3, *size, generator=generator))
    assert flow.shape == (2, 2, *size) and flow.dtype == torch.float32 and flow.isfinite().all()


def test_padding_is_even_and_minimal():
    assert padding((128, 136), 8) == (0, 0, 0, 0)
    assert padding((131, 129), 8) == (3, 4, 2, 3)


def test_images_that_need_no_padding_go_to_the_network_as_they_are(estimator):
    a, b = picture(), picture(shift=2)
    expected = estimator.network(2 * a - 1, 2 * b - 1, num_flow_updates=2)[-1]
    assert torch.equal(estimator(a, b), expected)


def test_pairs_of_a_batch_do_not_mix_and_iterations_count(weights, estimator):
    a, b = torch.cat((picture(), picture(shift=5))), torch.cat((picture(shift=2), picture(shift=1)))
    both = estimator(a, b)
    torch.testing.assert_close(both[1:], estimator(a[1:], b[1:]), atol=1e-4, rtol=1e-4)
    assert not torch.equal(both, RAFT("small", weights, iterations=1)(a, b))


def test_travels_to_other_processes(estimator):
    twin = pickle.loads(pickle.dumps(estimator))
    assert torch.equal(twin(picture(), picture(shift=1)), estimator(picture(), picture(shift=1)))


def test_other_weights_are_refused_with_their_names(tmp_path, weights):
    state = torch.load(weights, weights_only=True)
    state["surplus.weight"] = state.pop("feature_encoder.conv.bias")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=r"other\.pth.*missing: feature_encoder\.conv\.bias.*unexpected: surplus\.weight"
    ):
        RAFT("small", tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"RAFT large.*mask_predictor\.conv\.bias"):
        RAFT("large", weights)
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        RAFT("small", tmp_path / "absent.pth")
    torch.save({"code": RAFT}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="more than tensors"):
        RAFT("small", tmp_path / "code.pth")


def test_without_a_network_the_message_says_which_file_goes_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _offline)
    with pytest.raises(
        FileNotFoundError, match=rf"put the file at {tmp_path}/checkpoints/raft_large_C_T_SKHT_V2\S*\.pth"
    ):
        RAFT("large")


def test_torchvisions_own_download_is_kept(tmp_path, monkeypatch, weights):
    calls = []
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def fetch(url, destination, hash_prefix, progress):
        calls.append((url, hash_prefix))
        torch.save(torch.load(weights, weights_only=True), destination)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for _ in range(2):
        assert torch.equal(
            RAFT("small").network.state_dict()["feature_encoder.conv.bias"],
            torch.load(weights)["feature_encoder.conv.bias"],
        )
    assert len(calls) == 1 and calls[0][0].endswith(f"raft_small_C_T_V2-{calls[0][1]}.pth")


def _offline(*_, **__):
    raise URLError("Name or service not known")


def test_bad_requests_name_the_fault(estimator):
    with pytest.raises(ValueError, match=r"'huge'.*small or large"):
        RAFT("huge")
    with pytest.raises(ValueError, match="0 iterations"):
        RAFT("small", iterations=0)
    with pytest.raises(ValueError, match="resize"):
        estimator(picture(), picture(width=128))
    assert raft.MINIMUM == 128
