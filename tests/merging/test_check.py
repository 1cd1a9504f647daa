import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen_rl.checkpoint import load_state, model_hash, read_info, save_model
from musicgen_rl.errors import CheckpointError
from musicgen_rl.merging.check import check_mergeable, part_hash, require_related, tensor_shapes
from musicgen_rl.merging.endpoints import load_endpoints
from tests.merging.pairs import tune
from tests.models import TINY_LM, save_tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_folder):
    home = tmp_path_factory.mktemp("pairs")
    for seed, name in enumerate(("a", "b")):
        tune(tiny_folder, home / name, seed)
        tune(tiny_folder, home / f"{name}-knowing", seed, knows_base=True)
    return home


@pytest.fixture
def pair(models, tmp_path):
    """Two mergeable models, the second free to be damaged."""
    return read_info(models / "a"), read_info(shutil.copytree(models / "b", tmp_path / "b"))


def edit(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_fine_tunes_of_one_base_may_be_merged(models, tiny_folder):
    a, b = read_info(models / "a"), read_info(models / "b")
    base = read_info(tiny_folder)
    assert check_mergeable(a, b) is False  # the cards do not say, the weights must
    assert check_mergeable(a, b, base) is False
    a, b = read_info(models / "a-knowing"), read_info(models / "b-knowing")
    assert check_mergeable(a, b) is True
    assert check_mergeable(a, b, base) is True
    assert check_mergeable(base, b) is True  # one is the other's base


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.pop("model.decoder.layer_norm.bias"),
            "only a has model.decoder.layer_norm.bias$",
        ),
        (lambda t: t.update(adapter=torch.zeros(2)), "only b has adapter$"),
        (
            lambda t: t.update({"lm_heads.0.weight": torch.zeros(40, 31)}),
            r"of other shapes are lm_heads.0.weight \(40, 32\) and \(40, 31\)$",
        ),
        (
            lambda t: [t.pop(n) for n in list(t) if "layers.1." in n],
            r"only a has model.decoder.layers.1.*, .* and \d+ more$",
        ),
    ],
)
def test_tensors_missing_extra_and_misshapen_are_named(pair, change, said):
    edit(pair[1].folder / "model.safetensors", change)
    with pytest.raises(CheckpointError, match="a and b cannot be merged: " + said):
        check_mergeable(*pair)


def test_a_shape_that_no_tensor_shows_is_compared_too(pair):
    heads = replace(pair[1], lm=replace(TINY_LM, num_heads=4))
    with pytest.raises(CheckpointError, match="num_heads is 2 and 4"):
        check_mergeable(pair[0], heads)
    with pytest.raises(CheckpointError, match="frame rate is 50 and 25"):
        check_mergeable(pair[0], replace(pair[1], frame_rate=25.0))
    check_mergeable(pair[0], replace(pair[1], lm=replace(TINY_LM, dropout=0.1, max_frames=90)))


def test_all_that_differs_is_said_at_once(pair):
    edit(pair[1].folder / "model.safetensors", lambda t: t.update(adapter=torch.zeros(2)))
    codec = pair[1].folder / "codec" / "model.safetensors"
    edit(codec, lambda t: t.update({n: x + 1 for n, x in t.items()}))
    with pytest.raises(CheckpointError, match=r"only b has adapter; their codecs differ$"):
        check_mergeable(*pair)


def test_another_codec_is_refused(pair):
    assert part_hash(pair[0], "codec") == part_hash(pair[1], "codec")
    path = pair[1].folder / "codec" / "model.safetensors"
    name = next(iter(load_file(path)))
    edit(path, lambda t: t[name].view(-1)[0].add_(1e-3))
    with pytest.raises(CheckpointError, match="their codecs differ"):
        check_mergeable(*pair)


def test_another_setting_of_the_codec_is_refused_and_spaces_are_not(pair):
    path = pair[1].folder / "codec" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    check_mergeable(*pair)
    path.write_text(json.dumps(content | {"n_fft": 800}))
    with pytest.raises(CheckpointError, match="their codecs differ"):
        check_mergeable(*pair)


def test_another_text_encoder_is_refused(pair, tmp_path):
    for name, word in (("one", "hello"), ("two", "world")):
        (tmp_path / name).mkdir()
        save_file({"w": torch.ones(3)}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"word": word}))
    one, two = ({"type": "minilm", "path": str(tmp_path / n)} for n in ("one", "two"))
    a, b = pair
    check_mergeable(replace(a, text_encoder=one), replace(b, text_encoder=one))
    with pytest.raises(CheckpointError, match="their text encoders differ"):
        check_mergeable(replace(a, text_encoder=one), replace(b, text_encoder=two))
    with pytest.raises(CheckpointError, match="their text encoders differ"):
        check_mergeable(replace(a, text_encoder=one), replace(b, text_encoder={"type": "t5"}))


def knowing(info, sha256):
    return replace(info, notes={"base": {"name": "x", "sha256": sha256}})


def test_another_base_is_refused(models, tiny_folder, tmp_path):
    a, b = read_info(models / "a"), read_info(models / "b")
    with pytest.raises(CheckpointError, match=r"tuned from other bases \(1111.*, 2222"):
        check_mergeable(knowing(a, "1" * 64), knowing(b, "2" * 64))
    base = read_info(tiny_folder)
    good = knowing(a, model_hash(base))
    with pytest.raises(CheckpointError, match="b was tuned from a base with hash 1111"):
        check_mergeable(a, knowing(b, "1" * 64), base)
    check_mergeable(good, knowing(b, model_hash(base)), base)


def test_models_of_one_name_are_told_apart_by_folder(pair):
    twin = replace(pair[1], name="a", frame_rate=1.0)
    with pytest.raises(CheckpointError, match=r"/a and .*/b cannot be merged"):
        check_mergeable(pair[0], twin)


def test_strangers_are_told_by_their_weights(pair, tmp_path):
    stranger = save_tiny(tmp_path / "stranger", seed=5)
    shutil.rmtree(stranger / "codec")
    shutil.copytree(pair[0].folder / "codec", stranger / "codec")
    check_mergeable(pair[0], read_info(stranger))  # nothing on paper is wrong with it
    with pytest.raises(CheckpointError, match="a and tiny do not come from one base"):
        load_endpoints(pair[0], read_info(stranger))


def test_the_cosine_that_tells_strangers_leaves_norms_out():
    ones = torch.full((100,), 30.0)
    first, second = torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(CheckpointError, match=r"cosine of their weights is 0\.00"):
        require_related({"n": ones, "w": first}, {"n": ones, "w": second}, ("x", "y"))
    require_related({"n": ones, "w": first}, {"n": -ones, "w": first + 0.5}, ("x", "y"))


def test_shapes_are_read_without_the_weights(tiny_folder, tiny_musicgen_folder):
    shapes = tensor_shapes(read_info(tiny_folder))
    assert shapes["model.decoder.layers.1.fc1.weight"] == (48, 32)
    assert shapes["enc_to_dec_proj.weight"] == (32, 384)
    composite = tensor_shapes(read_info(tiny_musicgen_folder))
    assert "model.decoder.layers.1.fc1.weight" in composite
    assert not any("encoder." in n and "decoder" not in n for n in composite)


def test_parts_of_a_musicgen_folder_have_hashes_of_their_own(tiny_musicgen_folder, tmp_path):
    info = read_info(tiny_musicgen_folder)
    other = read_info(shutil.copytree(tiny_musicgen_folder, tmp_path / "other"))
    edit(
        other.folder / "model.safetensors",
        lambda t: t["text_encoder.shared.weight"].view(-1)[0].add_(1),
    )
    assert part_hash(info, "codec") == part_hash(other, "codec")
    assert part_hash(info, "text_encoder") != part_hash(other, "text_encoder")
    with pytest.raises(CheckpointError, match="their text encoders differ"):
        check_mergeable(info, other)


def test_a_truncated_file_is_named(pair):
    path = pair[1].folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        check_mergeable(*pair)


def test_endpoints_are_loaded_as_stored_and_share_what_is_alike(models, tiny_folder, tmp_path):
    a = read_info(models / "a")
    state = load_state(a)
    half = {n: t if n == "heads.weight" else t + 0.01 for n, t in state.items()}
    save_model(tmp_path / "b", replace(a, name="b"), half, dtype=torch.float32)
    shutil.copytree(a.folder / "codec", tmp_path / "b" / "codec")
    ends = load_endpoints(a, read_info(tmp_path / "b"), read_info(tiny_folder))
    assert ends.quality["heads.weight"] is ends.diversity["heads.weight"]
    assert ends.quality["norm.bias"] is not ends.diversity["norm.bias"]
    assert ends.diversity["norm.bias"].equal(half["norm.bias"])
    assert ends.base["norm.bias"].equal(load_state(read_info(tiny_folder))["norm.bias"])
    stored = read_info(tune(tiny_folder, tmp_path / "c", 3, dtype=torch.float16))
    assert load_endpoints(stored, stored).quality["embed.weight"].dtype == torch.float16
