"""Whether two models may be merged: same tensors, same base, same codec, same text encoder.

Codes of another codec, or text states of another encoder, mean something else, and weights that
were not tuned from one base do not lie in one valley: their average is noise, not music.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from musicgen_rl.checkpoint import (
    LOW_RANK,
    ModelInfo,
    lies_over,
    model_hash,
    part_folder,
    stated_base,
    weight_files,
)
from musicgen_rl.errors import CheckpointError
from musicgen_rl.storage import read_tensors

_PREFIXES = {"codec": "audio_encoder.", "text_encoder": "text_encoder."}
_FREE_TO_DIFFER = ("dropout", "max_frames")  # neither changes what a weight means
_LEAST_COSINE = 0.5  # fine-tunes of one base are above .9, strangers near 0
_BLOCK = 1 << 22


def check_mergeable(
    quality: ModelInfo, diversity: ModelInfo, base: ModelInfo | None = None
) -> bool:
    """Check two models, and what they were tuned from, before any weight is loaded.

    Args:
        quality: the one at lam = 0.
        diversity: the one at lam = 1.
        base: what both were tuned from, if the method needs it or the user names it.

    Returns:
        Whether the cards say that they come from one base; where they do not, `require_related`
        can tell by the weights.

    Raises:
        CheckpointError: lists what is missing, extra or misshapen, and whether shape, frame rate,
            base, codec or text encoder differ.
    """
    problems = _differences(quality, diversity)
    bases = [stated_base(model) for model in (quality, diversity)]
    related = _are_related(quality, diversity, bases)
    if related is False:
        problems.append(
            f"they were tuned from other bases ({_short(bases[0])}, {_short(bases[1])})"
        )
    _raise(quality, diversity, problems)
    if base is None:
        return related is True
    _raise(quality, base, _differences(quality, base))
    sha256 = model_hash(base)
    for model, stated in zip((quality, diversity), bases, strict=True):
        if stated is not None and stated != sha256:
            raise CheckpointError(
                f"{model.name} was tuned from a base with hash {_short(stated)}, {base.name} has "
                f"{_short(sha256)}: name the base that its card tells of"
            )
    return bases == [sha256, sha256]


@torch.no_grad()
def require_related(
    quality: Mapping[str, Tensor], diversity: Mapping[str, Tensor], names: tuple[str, str]
) -> None:
    """Check by the weights that two models come from one base, where their cards do not say.

    Args:
        quality: state dict of the first.
        diversity: of the second, with the same names and shapes.
        names: of the models, for the message.

    Raises:
        CheckpointError: their matrices have a cosine below one half.
    """
    product = lengths_q = lengths_d = 0.0
    for name, q in quality.items():
        d = diversity[name]
        if q.dim() > 1:  # norms are near one in every model and would hide the difference
            q, d = q.flatten().float(), d.flatten().float()
            product += float(torch.dot(q, d))
            lengths_q += float(torch.dot(q, q))
            lengths_d += float(torch.dot(d, d))
    cosine = product / math.sqrt(lengths_q * lengths_d) if lengths_q * lengths_d else 1.0
    if cosine < _LEAST_COSINE:
        raise CheckpointError(
            f"{names[0]} and {names[1]} do not come from one base: the cosine of their weights is "
            f"{cosine:.2f}, and a merge of such models is noise. Merge fine-tunes of one model"
        )


def tensor_shapes(info: ModelInfo) -> dict[str, tuple[int, ...]]:
    """Read names and shapes of the LM's stored tensors, without the tensors.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    if (info.folder / LOW_RANK).is_file():
        return tensor_shapes(lies_over(info))
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(info.folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    if not name.startswith(tuple(_PREFIXES.values())):
                        shapes[name] = tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): truncated or not safetensors: copy it again"
            ) from None
    return {name.removeprefix("decoder."): shape for name, shape in shapes.items()}


def part_hash(info: ModelInfo, part: str) -> str:
    """Hash the weights of a model's codec or text encoder.

    Args:
        info: the model.
        part: "codec" or "text_encoder".

    Returns:
        sha256 of the tensors, names and shapes included, whatever files they lie in; for a part
        with a folder of its own, of its config and tokenizer too.

    Raises:
        CheckpointError: the part is not there, or damaged.
    """
    described = info.codec if part == "codec" else info.text_encoder
    digest = hashlib.sha256(str(described.get("type")).encode())
    if "path" in described:
        folder = part_folder(info, described)
        for name in ("config.json", "tokenizer.json"):
            if (folder / name).is_file():
                digest.update(_canonical(folder / name))
        tensors = read_tensors(sorted(folder.glob("*.safetensors")))
    else:
        tensors = read_tensors(weight_files(info.folder), (_PREFIXES[part],))
    for name in sorted(tensors):
        tensor = tensors.pop(name).contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.view(-1).view(torch.uint8)
        for start in range(0, len(flat), _BLOCK):
            digest.update(flat[start : start + _BLOCK].numpy().data)
    return digest.hexdigest()


def _differences(first: ModelInfo, second: ModelInfo) -> list[str]:
    """Say what forbids the merge, most telling first."""
    ours, theirs = asdict(first.lm), asdict(second.lm)
    found = [
        f"{name} is {ours[name]} and {theirs[name]}"
        for name in ours
        if ours[name] != theirs[name] and name not in _FREE_TO_DIFFER
    ]
    shapes = tensor_shapes(first), tensor_shapes(second)
    found += _listed(f"only {first.name} has", [n for n in shapes[0] if n not in shapes[1]])
    found += _listed(f"only {second.name} has", [n for n in shapes[1] if n not in shapes[0]])
    both = [n for n in shapes[0] if n in shapes[1]]
    misshapen = [n for n in both if shapes[0][n] != shapes[1][n]]
    found += _listed(
        "of other shapes are",
        [f"{n} {shapes[0][n]} and {shapes[1][n]}" for n in misshapen],
    )
    if first.frame_rate != second.frame_rate:
        found.append(f"the frame rate is {first.frame_rate:g} and {second.frame_rate:g}")
    for part, said in (("codec", "codec"), ("text_encoder", "text encoder")):
        if not _same_part(first, second, part):
            found.append(f"their {said}s differ")
    return found


def _are_related(first: ModelInfo, second: ModelInfo, bases: list[str | None]) -> bool | None:
    """Tell by the cards whether two models share a base or one is the other's; None: not known."""
    if bases == [None, None]:
        return None
    if bases[0] == bases[1]:
        return True
    if model_hash(second) == bases[0] or model_hash(first) == bases[1]:
        return True
    return None if None in bases else False


def _short(sha256: str | None) -> str:
    return str(sha256)[:12]


def _same_part(first: ModelInfo, second: ModelInfo, part: str) -> bool:
    """Compare two models' codecs or text encoders; a shared folder is not read."""
    parts = [m.codec if part == "codec" else m.text_encoder for m in (first, second)]
    if parts[0].get("type") != parts[1].get("type"):
        return False
    if all("path" in p for p in parts) and part_folder(first, parts[0]) == part_folder(
        second, parts[1]
    ):
        return True
    return part_hash(first, part) == part_hash(second, part)


def _listed(what: str, names: list[str]) -> list[str]:
    """Make one phrase of many names: none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what} {', '.join(names[:3])}{more}"]


def _raise(first: ModelInfo, second: ModelInfo, problems: list[str]) -> None:
    if problems:
        a, b = first.name, second.name
        if a == b:
            a, b = str(first.folder), str(second.folder)
        raise CheckpointError(f"{a} and {b} cannot be merged: {'; '.join(problems)}")


def _canonical(path: Path) -> bytes:
    """Read JSON so that neither spaces nor the order of keys matter; other text as it is."""
    content = path.read_bytes()
    try:
        return json.dumps(json.loads(content), sort_keys=True).encode()
    except ValueError:
        return content
