import io
import json
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from blda_video.flow import flow_geometry
from blda_video.flow.flow_formats import read_flow
from blda_video.flow.flow_store import FlowStore


def flow(height=9, width=13, scale=20.0, seed=0):
    return scale * torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(seed))


def test_a_flow_comes_back_to_a_128th_of_a_pixel(tmp_path):
    store = FlowStore(tmp_path / "flow", "dis-medium")
    assert not store.has("city/a_1", "city/a_2")
    store.write("city/a_1", "city/a_2", flow())
    store.write("city/a_2", "city/a_1", flow(seed=1)[0])
    read = FlowStore(tmp_path / "flow").read("city/a_1", "city/a_2")
    assert read.shape == (1, 2, 9, 13) and read.dtype == torch.float32
    assert (read - flow()).abs().max() <= 1 / 128
    assert (store.read("city/a_2", "city/a_1") - flow(seed=1)).abs().max() <= 1 / 128
    assert store.has("city/a_1", "city/a_2") and not store.has("city/a_1", "a_2")


def test_limits_are_kept_and_what_lies_beyond_is_unknown(tmp_path):
    store = FlowStore(tmp_path, "truth")
    bounds = flow()
    bounds[0, :, 0, 0] = torch.tensor([511.9, -511.9])
    for column, bad in enumerate((torch.nan, torch.inf, -torch.inf, 512.5, -600.0, 1e30)):
        bounds[0, column % 2, 1, column] = bad
    store.write("a", "b", bounds)
    read = store.read("a", "b")
    assert (read[0, :, 0, 0] - bounds[0, :, 0, 0]).abs().max() <= 1 / 128
    assert read[0, :, 1, :6].isnan().all() and read.isnan().sum() == 12
    assert not flow_geometry.inside(read)[0, 1, :6].any()


def test_names_never_share_a_file(tmp_path):
    store = FlowStore(tmp_path, "truth")
    names = [("a", "b/c"), ("a/b", "c"), ("a", "c"), ("c", "a"), ("a b", "c%2F"), ("a", "b%2Fc")]
    assert len({store.path(*pair) for pair in names}) == len(names)
    for outside in ("/etc/a", "../a", "a/../../b"):
        with pytest.raises(ValueError, match="relative"):
            store.path(outside, "b")


def test_missing_flow_names_the_file_and_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a.b\.npz.*compute-flow"):
        FlowStore(tmp_path).read("a", "b")


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "other"])
def test_a_corrupt_file_is_named(tmp_path, damage):
    store = FlowStore(tmp_path, "truth")
    store.write("a", "b", flow(40, 50))
    path = store.path("a", "b")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}.get(damage, content))
    if damage == "other":
        np.savez(path, something=np.zeros(3))
    with pytest.raises(ValueError, match=r"b\.npz.*compute-flow"):
        store.read("a", "b")


def test_another_estimator_or_format_is_refused(tmp_path):
    FlowStore(tmp_path, "dis-medium").write("a", "b", flow())
    FlowStore(tmp_path, "dis-medium")
    with pytest.raises(ValueError, match="made with 'dis-medium', not 'raft-small'"):
        FlowStore(tmp_path, "raft-small")
    manifest = tmp_path / "manifest.json"
    content = json.loads(manifest.read_text())
    assert content["estimator"] == "dis-medium" and content["size"] == [9, 13] and content["commit"]
    manifest.write_text(json.dumps({**content, "format": 7}))
    with pytest.raises(ValueError, match="format 7"):
        FlowStore(tmp_path)
    manifest.write_text("{")
    with pytest.raises(ValueError, match="corrupt flow manifest"):
        FlowStore(tmp_path)


def test_a_store_opened_before_it_was_filled_notices_the_other_estimator(tmp_path):
    early = FlowStore(tmp_path, "raft-small")
    FlowStore(tmp_path, "dis-medium").write("a", "b", flow())
    with pytest.raises(ValueError, match="made with"):
        early.read("a", "b")
    with pytest.raises(ValueError, match="made with"):
        early.write("a", "c", flow())


def test_one_store_holds_one_size_and_needs_a_name_to_write(tmp_path):
    store = FlowStore(tmp_path, "truth")
    store.write("a", "b", flow())
    with pytest.raises(ValueError, match="one frame size"):
        store.write("b", "a", flow(13, 9))
    with pytest.raises(ValueError, match="name of an estimator"):
        FlowStore(tmp_path).write("b", "a", flow())


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    store = FlowStore(tmp_path, "truth")
    store.write("a", "b", flow())
    before = store.path("a", "b").read_bytes()

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    for neighbour in ("b", "c"):
        with pytest.raises(OSError, match="disk full"):
            store.write("a", neighbour, flow(seed=1))
    assert store.path("a", "b").read_bytes() == before
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.npz"]


def test_noted_offsets_add_up_and_others_are_refused(tmp_path):
    store = FlowStore(tmp_path, "truth")
    store.require((-1, 5))  # nothing is known yet
    store.note((-1,))
    store.write("a", "b", flow())
    later = FlowStore(tmp_path, "truth")
    later.note((2, -1))
    FlowStore(tmp_path).require((-1, 2))
    store.note((-1,))
    assert json.loads((tmp_path / "manifest.json").read_text())["offsets"] == [-1, 2]
    with pytest.raises(ValueError, match=r"offsets -1, \+2, not -2; .*compute-flow"):
        FlowStore(tmp_path).require((-2, -1))


def test_manifests_from_before_offsets_were_noted_are_read(tmp_path):
    FlowStore(tmp_path, "dis-medium").write("a", "b", flow())
    (tmp_path / "manifest.json").write_text('{"format": 1, "estimator": "dis-medium", "size": [9, 13]}')
    store = FlowStore(tmp_path, "dis-medium")
    store.require((-3,))
    assert store.read("a", "b").shape == (1, 2, 9, 13)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 600.0])
def test_flow_that_is_mostly_unknown_is_refused(tmp_path, bad):
    broken = flow()
    broken[:, :, :6] = bad
    with pytest.raises(ValueError, match=r"b\.npz by truth: most vectors are not finite or longer than 512 px"):
        FlowStore(tmp_path, "truth").write("a", "b", broken)
    assert not list(tmp_path.iterdir())


def test_a_part_is_what_the_whole_holds_there(tmp_path):
    store, bounds = FlowStore(tmp_path, "truth"), flow()
    bounds[0, 1, 4, 5] = torch.nan
    store.write("a", "b", bounds)
    part = store.read("a", "b", slice(2, 7), slice(3, 11), size=(9, 13))
    torch.testing.assert_close(part, store.read("a", "b")[..., 2:7, 3:11], rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match=r"b\.npz is \(9, 13\) but its images are \(10, 13\)"):
        store.read("a", "b", size=(10, 13))


def test_travels_to_workers(tmp_path):
    store = FlowStore(tmp_path, "truth")
    store.write("a", "b", flow())
    assert torch.equal(pickle.loads(pickle.dumps(store)).read("a", "b"), store.read("a", "b"))


@pytest.mark.parametrize(
    "name", ["서울특별시강남대로주행영상" * 6, "a" * 251, os.fsdecode(b"stra\xdfe"), "x" * 240, "x" * 241]
)
def test_names_of_any_bytes_and_length_are_stored(name, tmp_path):
    store = FlowStore(tmp_path, "truth")
    names = [f"{name}/0001", f"{name}/0002", f"{name}/0003"]
    for other in names[1:]:
        store.write(names[0], other, flow())
        assert len(os.fsencode(store.path(names[0], other).name)) <= 255
    assert len({store.path(names[0], other) for other in names}) == 3
    assert FlowStore(tmp_path).has(names[0], names[2]) and not FlowStore(tmp_path).has(names[2], names[0])
    assert (store.read(names[0], names[1]) - flow()).abs().max() <= 1 / 128


def test_short_names_are_stored_as_ever(tmp_path):
    assert (
        FlowStore(tmp_path, "truth").path("a/1", "b/é 2").relative_to(tmp_path).as_posix() == "a/1/b%2F%C3%A9%202.npz"
    )


def test_flipped_bits_are_refused_or_change_nothing(tmp_path):
    store = FlowStore(tmp_path, "exact")
    flow = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    store.write("a", "b", flow)
    path, wanted = store.path("a", "b"), store.read("a", "b")
    whole, refused = path.read_bytes(), 0
    for place in torch.randint(0, 8 * len(whole), (200,), generator=torch.Generator().manual_seed(1)).tolist():
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert torch.equal(store.read("a", "b"), wanted)
        except ValueError as error:
            assert "corrupt flow file" in str(error) or "shape" in str(error)
            refused += 1
    assert refused > 100


def _claiming(shape: tuple[int, ...], held: np.ndarray) -> bytes:
    """An .npy file whose header names a shape that its values do not have."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": held.dtype.str, "fortran_order": False, "shape": shape})
    return file.getvalue() + held.tobytes()


@pytest.mark.parametrize("shape", [(2, 30000, 30000), (2, 10**7, 10**7), (2, 2000, 3000)])
def test_a_shape_that_a_file_claims_takes_no_memory(shape, tmp_path):
    """The last one is true, and of another size than the store's; the others end early."""
    store = FlowStore(tmp_path, "truth")
    store.write("a", "b", flow())
    path, held = store.path("a", "b"), np.zeros((2, 2000, 3000), np.int16)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flow.npy", _claiming(shape, held if shape == held.shape else held[:1, :1]))
        for name in ("u.npy", "v.npy"):
            archive.writestr(name, _claiming(shape[1:], held[0] if shape == held.shape else held[0, :1]))
    for read in (store.read, lambda *_: read_flow(path)):
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"b\.npz"):
            read("a", "b")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**21
    (tmp_path / "flow.npy").write_bytes(_claiming((10**6, 10**6, 2), held[:, :2]))
    with pytest.raises(ValueError, match="claims to hold 1000000 x 1000000 x 2 numbers"):
        read_flow(tmp_path / "flow.npy")
