"""Train the scorer: a clip close to its own caption, apart from those of other clips.

The sentences' embeddings are MiniLM's, computed once and kept beside the frames. The tower may
start from an encoder's, of the same half of the data. Metrics: loss, hit (share of clips and
captions whose nearest is their partner), seconds.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.config import require_number
from musicgen_rl.errors import CheckpointError
from musicgen_rl.rewards.encoder import EncoderNet
from musicgen_rl.rewards.files import fill, read_description, save_reward_model
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.mel import level_free
from musicgen_rl.rewards.scorer import ScorerNet
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.checkpointing import save_training_state
from musicgen_rl.training.reward_augment import augment
from musicgen_rl.training.reward_crops import (
    draw_crop,
    draw_frames,
    held_out_pieces,
    stack,
    styles_of,
    training_pieces,
)
from musicgen_rl.training.reward_encoder import (
    HELD_OUT,
    begun_with,
    info_nce,
    require_role_and_half,
    run_facts,
    told_of,
)
from musicgen_rl.training.reward_loop import RewardTrainConfig, require_same_run, run_training
from musicgen_rl.training.reward_mels import MelPiece, load_mels
from musicgen_rl.training.reward_retrieval import (
    coded_crops,
    crops_at,
    embed_crops,
    recall_at,
    recall_within,
)
from musicgen_rl.training.same_run import hash_part

CAPTIONS = "captions"


@dataclass(frozen=True, kw_only=True)
class ScorerTrainConfig(RewardTrainConfig):
    """One run of scorer training."""

    role: str = "training"
    """training: for rewards. report: for measuring only."""
    half: str = "a"
    """Half of the training split that is learnt from, by the pieces' names: a, b or all."""
    dim: int = 128
    """d: size of the space that sound and text share."""
    text_width: int = 384
    """Width inside the text's head."""
    temperature: float = 0.1
    """Of the contrastive loss."""
    styles: int = 6
    """Styles of a step that is drawn from few of them."""
    grouped_share: float = 0.5
    """Share of such steps, where the style alone does not tell which caption is whose."""
    tower: TowerConfig = field(default_factory=TowerConfig)
    """Shape of the network; that of `start` where one is given."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_role_and_half(self.role, self.half)
        require_number("dim", self.dim, 2, 4096)
        require_number("text_width", self.text_width, 1, 65536)
        require_number("temperature", self.temperature, 0.005, 5.0)
        require_number("styles", self.styles, 1, 1000)
        require_number("grouped_share", self.grouped_share, 0.0, 1.0)


def embed_captions(
    pieces: Sequence[MelPiece],
    text: MiniLM,
    cache: Path,
    report: Callable[[int, int], None] | None = None,
    *,
    text_hash: str | None = None,
) -> dict[str, Tensor]:
    """Embed every caption of some pieces, or read what an earlier call kept.

    Args:
        pieces: whose captions.
        text: embeds those not kept yet, or kept by another text encoder.
        cache: folder of what is kept, by one text encoder.
        report: told (done, total).
        text_hash: tells the text encoder from others; not needed where there is only one.

    Returns:
        Caption -> unit sentence embedding [D].

    Raises:
        StorageError: the folder cannot be written.
    """
    kept: dict[str, Tensor] = {}
    path = cache / "state.safetensors"
    if path.exists():
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                if state.get("encoder") == text_hash:
                    listed = json.loads(state["captions"])
                    kept = dict(zip(listed, file.get_tensor("embeddings").float(), strict=True))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}): remove it") from error
    missing = sorted({c for p in pieces for c in p.captions} - kept.keys())
    for done, caption in enumerate(missing, start=1):
        kept[caption] = text.embed([caption])[0]
        if report:
            report(done, len(missing))
    if missing:
        embeddings = torch.stack(list(kept.values()))
        state = {"captions": json.dumps(list(kept)), "encoder": text_hash}
        save_training_state(cache, {"embeddings": embeddings}, state)
    return kept


def scorer_begun_with(
    config: ScorerTrainConfig, start: Path | None, text_encoder: Path | None
) -> dict[str, Any]:
    """Collect what a resumed run must share with its beginning, as far as it is known by names.

    Args:
        config: of the run.
        start: an encoder whose tower is taken over.
        text_encoder: MiniLM's folder; the one shipped where None.

    Raises:
        ModelNotFoundError, CheckpointError: `start` is no encoder, or damaged.
    """
    reader = hash_part(text_encoder or checkpoints_folder() / "minilm")
    return begun_with(config) | {"start": hash_start(start), "text encoder": reader}


def hash_start(start: Path | None) -> str | None:
    """Read the hash of the weights of an encoder to start from; None where there is none."""
    return None if start is None else read_description(start, "encoder")[0].sha256


def start_tower(tower: nn.Module, config: TowerConfig, encoder: Path) -> Identity:
    """Copy an encoder's tower into another model of the same shape.

    Raises:
        CheckpointError: the shapes differ.
    """
    identity, shape, further = read_description(encoder, "encoder")
    if shape != config:
        raise CheckpointError(
            f"the encoder in {encoder} has the tower {shape}, not {config}: give the same one"
        )
    net = EncoderNet(shape, int(further["dim"]))
    fill(net, encoder)
    tower.load_state_dict(net.tower.state_dict())
    return identity


def draw_pieces(
    random: np.random.Generator, by_style: list[list[MelPiece]], config: ScorerTrainConfig
) -> list[MelPiece]:
    """Draw a step's pieces: of a few styles, or of all."""
    groups = by_style
    if random.random() < config.grouped_share:
        groups = [by_style[int(i)] for i in random.permutation(len(by_style))[: config.styles]]
    pieces = [piece for group in groups for piece in group]
    return [pieces[int(i)] for i in random.permutation(len(pieces))[: config.batch_size]]


def caption_loss(
    net: ScorerNet,
    by_style: list[list[MelPiece]],
    sentences: dict[str, Tensor],
    config: ScorerTrainConfig,
    step: int,
) -> tuple[Tensor, dict[str, float]]:
    """Draw a step's clips and captions and compute the loss."""
    random = np.random.default_rng([config.seed, step])
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    chosen = draw_pieces(random, by_style, config)
    frames = draw_frames(random, config.shortest_s, config.longest_s)
    crops = [
        # A semitone of tape speed moves no tempo out of its words.
        draw_crop(random, piece, frames, int(random.integers(-1, 2)), config.coded_share)
        for piece in chosen
    ]
    captions = [p.captions[int(random.integers(len(p.captions)))] for p in chosen]
    heard = net.hear(level_free(augment(stack(crops), generator)))
    read = net.read(torch.stack([sentences[c] for c in captions]))
    loss, hit = info_nce(heard, read, config.temperature)
    return loss, {"hit": float(hit)}


def scorer_figures(
    net: ScorerNet, pieces: Sequence[MelPiece], sentences: dict[str, Tensor], seconds: float = 5.0
) -> dict[str, float]:
    """Measure a scorer on held-out pieces, one clip and one caption of each.

    Returns:
        Recall at 10 and 1 of captions looking for their clip among all, the same through the codec,
        recall at 1 among clips of the same style and what chance gives there, and mean scores of
        own and other captions.
    """
    captions = [p.captions[(i * 7) % len(p.captions)] for i, p in enumerate(pieces)]
    with torch.no_grad():
        texts = net.read(torch.stack([sentences[c] for c in captions]))
    clips = embed_crops(net.hear, crops_at(pieces, seconds, 0.5))
    scores = texts @ clips.T
    eye = torch.eye(len(pieces), dtype=torch.bool)
    within, chance = recall_within(scores, [str(p.attributes.get("style", "")) for p in pieces])
    k = min(10, len(pieces))
    figures = {
        "pieces": float(len(pieces)),
        f"caption-to-clip recall@{k}": recall_at(scores, eye, k),
        "caption-to-clip recall@1": recall_at(scores, eye, 1),
        f"chance of recall@{k}": k / len(pieces),
        "recall@1 within style": within,
        "chance within style": chance,
        "score of the own caption": float(scores[eye].mean()),
        "score of other captions": float(scores[~eye].mean()),
    }
    coded = coded_crops(pieces, seconds)
    if len(coded) >= k:
        played = texts @ embed_crops(net.hear, [c for _, c in coded]).T
        rows = torch.tensor([i for i, _ in coded])
        right = torch.eye(len(coded), dtype=torch.bool)
        figures[f"recall@{k} through the codec, of {len(coded)}"] = recall_at(
            played[rows], right, k
        )
    return figures


def train_scorer(
    mels: Path,
    folder: Path,
    config: ScorerTrainConfig,
    *,
    start: Path | None = None,
    text_encoder: Path | None = None,
    name: str = "",
    license: str = "unknown",
    report: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Identity | None:
    """Train a scorer, or go on with the run in a folder.

    Args:
        mels: as `prepare_mels` made it.
        folder: of the run; the finished scorer is FOLDER/export.
        config: how.
        start: an encoder whose tower is taken over.
        text_encoder: MiniLM's folder; the one shipped where None.
        name: for people; from the role where empty.
        license: of the weights.
        report: told (done, total) of captions embedded.
        stop: asked after every step.

    Returns:
        The finished scorer's identity; None where it was stopped.

    Raises:
        InputError, CheckpointError, StorageError: as `run_training`, or too few pieces.
    """
    begun = scorer_begun_with(config, start, text_encoder)
    require_same_run(folder, "scorer", begun)
    pieces = load_mels(mels)
    trained = training_pieces(pieces, config.half, config.longest_s)
    reader = text_encoder or checkpoints_folder() / "minilm"
    begun |= told_of(trained)
    require_same_run(folder, "scorer", begun)  # before captions are read
    text = MiniLM.load(reader)
    sentences = embed_captions(
        pieces, text, mels / CAPTIONS, report, text_hash=begun["text encoder"]
    )
    torch.manual_seed(config.seed)
    net = ScorerNet(config.tower, config.dim, text.hidden_size, config.text_width)
    by_style = styles_of(trained)
    origin = start_tower(net.tower, config.tower, start) if start else None
    summary = run_training(
        net, config, folder, "scorer",
        lambda step: caption_loss(net, by_style, sentences, config, step),
        begun, stop,
    )  # fmt: skip
    if stop():
        return None
    held = held_out_pieces(pieces, trained, HELD_OUT, 5.0)
    figures = scorer_figures(net, held, sentences) if len(held) > 1 else {}
    facts = run_facts(config, trained, held, summary.steps, summary.seconds, license)
    return save_reward_model(
        net, folder / "export", name=name or f"scorer-{config.role}", kind="scorer",
        role=config.role, tower=config.tower,
        shape={"dim": config.dim, "text_size": text.hidden_size, "text_width": config.text_width},
        facts=facts | {"tower started from": str(origin or "nothing"), "figures": figures},
    )  # fmt: skip


def tower_of(encoder: Path) -> TowerConfig:
    """Read the shape of an encoder's tower, for a model that starts from it."""
    _, tower, _ = read_description(encoder, "encoder")
    return TowerConfig(**asdict(tower))
