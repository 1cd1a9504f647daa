"""Encoder, scorer and probe as they are loaded: tiny random ones, written and read back."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.errors import CheckpointError, ConfigError, InputError, ModelNotFoundError
from musicgen_rl.rewards import Identity, load_encoder, load_probe, load_scorer
from musicgen_rl.rewards.encoder import EncoderNet
from musicgen_rl.rewards.files import save_reward_model
from musicgen_rl.rewards.mel import level_free, mel_levels
from musicgen_rl.rewards.probe import ProbeNet, log_likelihood, right_share
from musicgen_rl.rewards.scorer import ScorerNet
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.storage import hash_file

VIT = TowerConfig(width=16, layers=2, heads=2, patch_frames=8, window_s=2.0)
CONV = TowerConfig(kind="conv", width=32, layers=4, window_s=2.0)
CLASSES = {"style": ("jazz", "rock", "waltz"), "drums": ("False", "True"), "moods": ("sad", "calm")}
RATE = 16000


def save(net: nn.Module, folder: Path, kind: str, tower: TowerConfig, **shape: object) -> Identity:
    facts = {"data": "none", "license": "CC0-1.0", "figures": {"recall@1": 0.25}}
    return save_reward_model(
        net, folder, name=f"tiny {kind}", kind=kind, role="report", tower=tower, shape=shape,
        facts=facts,
    )  # fmt: skip


def encoder_folder(folder: Path, tower: TowerConfig = VIT) -> Path:
    torch.manual_seed(1)
    save(EncoderNet(tower, 8), folder, "encoder", tower, dim=8)
    return folder


def noise(clips: int = 3, seconds: float = 1.5) -> torch.Tensor:
    return 0.1 * torch.randn(clips, round(seconds * RATE)).cumsum(1).diff(dim=1, prepend=None)


@pytest.mark.parametrize("tower", [VIT, CONV])
def test_an_encoder_comes_back_as_it_was_saved(tmp_path: Path, tower: TowerConfig) -> None:
    torch.manual_seed(1)
    net = EncoderNet(tower, 8).eval()
    save(net, tmp_path, "encoder", tower, dim=8)
    clips = noise()
    with torch.no_grad():
        expected = net(level_free(mel_levels(clips, RATE)))
    found = load_encoder(tmp_path).embed(clips, RATE)
    assert_close(found, expected, atol=2e-2, rtol=0)  # 16 bit on disk
    assert_close(found.norm(dim=1), torch.ones(3))
    assert not found.requires_grad
    assert not found.is_inference()


@pytest.mark.parametrize("tower", [VIT, CONV])
def test_a_clip_is_embedded_alike_alone_and_in_company(tmp_path: Path, tower: TowerConfig) -> None:
    encoder = load_encoder(encoder_folder(tmp_path, tower))
    clips = noise(20)
    assert_close(encoder.embed(clips, RATE)[17:18], encoder.embed(clips[17:18], RATE))


def test_long_clips_are_heard_to_their_end(tmp_path: Path) -> None:
    encoder = load_encoder(encoder_folder(tmp_path))
    clip = noise(1, 5.0)
    other = clip.clone()
    other[:, -RATE:] = 0.5 * torch.sin(torch.arange(RATE) * 0.3)
    assert float((encoder.embed(clip, RATE) * encoder.embed(other, RATE)).sum()) < 0.9999


def test_the_order_of_sounds_matters_to_the_transformer(tmp_path: Path) -> None:
    encoder = load_encoder(encoder_folder(tmp_path))
    clip = torch.cat([noise(1, 1.0), 0.3 * torch.sin(torch.arange(RATE) * 0.2)[None]], dim=1)
    turned = torch.cat([clip[:, RATE:], clip[:, :RATE]], dim=1)
    assert not torch.allclose(encoder.embed(clip, RATE), encoder.embed(turned, RATE), atol=1e-4)


def test_identity_is_that_of_the_file(tmp_path: Path) -> None:
    encoder = load_encoder(encoder_folder(tmp_path))
    expected = hash_file(tmp_path / "model.safetensors")
    assert encoder.identity == Identity("tiny encoder", expected, "encoder", "report")
    assert Identity.from_json(encoder.identity.to_json()) == encoder.identity
    assert encoder.identity != Identity("tiny encoder", "0" * 64, "encoder", "report")
    assert expected[:12] in str(encoder.identity)
    assert (encoder.dim, encoder.sample_rate) == (8, 32000)


def test_the_card_says_what_it_is_for(tmp_path: Path) -> None:
    text = (encoder_folder(tmp_path) / "README.md").read_text()
    assert "license: cc0-1.0" in text
    assert "**report**" in text
    assert "no policy" in text
    assert "| recall@1 | 0.25 |" in text
    assert hash_file(tmp_path / "model.safetensors") in text


def test_floats_are_written_in_16_bits_and_counts_as_they_are(tmp_path: Path) -> None:
    encoder_folder(tmp_path, CONV)
    tensors = load_file(tmp_path / "model.safetensors")
    counts = {n: t for n, t in tensors.items() if n.endswith("num_batches_tracked")}
    assert counts
    assert {t.dtype for t in counts.values()} == {torch.int64}
    assert {t.dtype for n, t in tensors.items() if n not in counts} == {torch.float16}


def test_weights_of_another_training_are_refused(tmp_path: Path) -> None:
    encoder_folder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({n: t * 2 for n, t in tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"are not those that reward\.json describes"):
        load_encoder(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = EncoderNet(VIT, 8)
    with torch.no_grad():
        net.project.bias[0] = float("nan")
    save(net, tmp_path, "encoder", VIT, dim=8)
    with pytest.raises(CheckpointError, match=r"project\.bias .* is not finite"):
        load_encoder(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save(EncoderNet(VIT, 8), tmp_path, "encoder", VIT, dim=9)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_encoder(tmp_path)


def test_a_missing_model_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="musicgen-rl train probe"):
        load_probe(tmp_path / "nowhere")


def test_kinds_are_not_confused(tmp_path: Path) -> None:
    encoder_folder(tmp_path)
    with pytest.raises(CheckpointError, match="holds: encoder; expected: scorer"):
        load_scorer(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [("format", 7, "format 7"), ("role", "judge", "role 'judge'"), ("tower", {"legs": 2}, "legs")],
)
def test_a_broken_description_is_refused(
    tmp_path: Path, key: str, value: object, text: str
) -> None:
    encoder_folder(tmp_path)
    described = json.loads((tmp_path / "reward.json").read_text())
    (tmp_path / "reward.json").write_text(json.dumps(described | {key: value}))
    with pytest.raises(CheckpointError, match=text):
        load_encoder(tmp_path)


def test_an_unknown_role_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="role 'judge'"):
        save_reward_model(
            EncoderNet(VIT, 8), tmp_path / "x", name="x", kind="encoder", role="judge", tower=VIT,
            shape={}, facts={},
        )  # fmt: skip
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "mlp"}, "unknown tower 'mlp'"),
        ({"width": 15}, "multiple of twice the heads"),
        ({"kind": "conv", "width": 20, "layers": 4}, "halvings"),
        ({"window_s": 0.1}, "window_s"),
        ({"layers": 0}, "layers must be >= 1"),
    ],
)
def test_towers_that_cannot_be_built_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        TowerConfig(**{"width": 16, "heads": 2, **change})  # type: ignore[arg-type]


def scorer_folder(folder: Path) -> Path:
    torch.manual_seed(2)
    net = ScorerNet(CONV, 8, 384, 16)
    save(net, folder, "scorer", CONV, dim=8, text_size=384, text_width=16)
    return folder


def test_a_score_is_the_cosine_of_both_sides(tmp_path: Path) -> None:
    scorer = load_scorer(scorer_folder(tmp_path))
    clips, captions = noise(2), ["calm piano", "fast techno"]
    both = scorer.embed_audio(clips, RATE) @ scorer.embed_text(captions).T
    found = scorer.score(clips, RATE, captions)
    assert_close(found, both.diagonal())
    assert not torch.allclose(found, scorer.score(clips, RATE, captions[::-1]), atol=1e-4)
    assert scorer.identity.kind == "scorer"


def test_a_sentence_comes_to_the_text_head_with_numbers_of_about_one() -> None:
    """Unit vectors of 384 numbers are too small for a GELU: they are brought to unit spread."""
    net = ScorerNet(CONV, 4, 4, 4).eval()
    with torch.no_grad():
        for layer in (net.text_in, net.text_out):
            layer.weight.copy_(torch.eye(4))
            layer.bias.zero_()
    found = net.read(torch.tensor([[0.6, 0.8, 0.0, 0.0]]))
    wide = nn.functional.gelu(torch.tensor([1.2, 1.6, 0.0, 0.0]))  # times the root of 4
    assert_close(found[0], wide / wide.norm())


def test_captions_must_be_as_many_as_clips_and_not_empty(tmp_path: Path) -> None:
    scorer = load_scorer(scorer_folder(tmp_path))
    with pytest.raises(InputError, match="2 clips need as many captions, got 1"):
        scorer.score(noise(2), RATE, ["piano"])
    with pytest.raises(InputError, match="caption is empty"):
        scorer.score(noise(2), RATE, ["piano", " "])


def test_a_scorer_of_another_text_encoder_is_refused(tmp_path: Path) -> None:
    save(ScorerNet(CONV, 8, 100, 16), tmp_path, "scorer", CONV, dim=8, text_size=100, text_width=16)
    with pytest.raises(CheckpointError, match="sentences of 100 numbers"):
        load_scorer(tmp_path, text_encoder=checkpoints_folder() / "minilm")


def test_a_probe_gives_probabilities_of_each_attribute(tmp_path: Path) -> None:
    torch.manual_seed(3)
    save(ProbeNet(CONV, CLASSES), tmp_path, "probe", CONV, classes=CLASSES)
    probe = load_probe(tmp_path)
    found = probe.log_probs(noise(2), RATE)
    assert probe.classes == CLASSES
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        "style": (2, 3), "drums": (2, 2), "moods": (2, 2)
    }  # fmt: skip
    assert_close(found["style"].exp().sum(1), torch.ones(2))
    assert bool((found["moods"] < 0).all())
    assert not torch.allclose(found["moods"].exp().sum(1), torch.ones(2), atol=1e-3)


LOG_PROBS = {
    "style": torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]).log(),
    "drums": torch.tensor([[0.9, 0.1], [0.4, 0.6]]).log(),
    "moods": torch.tensor([[0.3, 0.2], [0.6, 0.9]]).log(),
}


def test_right_share_by_hand() -> None:
    wanted = [
        {"style": "jazz", "drums": True, "moods": ["calm"]},
        {"style": "polka", "moods": ["calm", "sad"]},
    ]
    shares = right_share(LOG_PROBS, CLASSES, wanted)
    assert shares["style"].tolist()[0] == 1.0
    assert torch.isnan(shares["style"][1])  # the probe knows no polka
    assert shares["drums"].tolist()[0] == 0.0
    assert torch.isnan(shares["drums"][1])  # not asked
    assert shares["moods"].tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="2 clips need as many wishes, got 1"):
        right_share(LOG_PROBS, CLASSES, wanted[:1])


def test_log_likelihood_picks_the_wanted_class() -> None:
    found = log_likelihood(LOG_PROBS["style"], CLASSES["style"], ["rock", None])
    assert found[0].exp().item() == pytest.approx(0.2)
    assert torch.isnan(found[1])
