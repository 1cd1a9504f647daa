import pytest
import torch

from musicgen_rl.lm.delay import apply_delay, delay_mask, num_steps, shift_right, undo_delay


def test_mono_pattern_by_hand():
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    assert apply_delay(codes, 9).tolist() == [[[1, 2, 3, 9], [9, 4, 5, 6]]]
    assert undo_delay(apply_delay(codes, 9)).tolist() == codes.tolist()
    assert num_steps(3, 2) == 4


def test_stereo_pairs_share_a_delay():
    codes = torch.tensor([[[1, 2], [3, 4], [5, 6], [7, 8]]])
    expected = [[[1, 2, 0], [3, 4, 0], [0, 5, 6], [0, 7, 8]]]
    assert apply_delay(codes, 0, audio_channels=2).tolist() == expected


def test_shift_right_starts_with_padding():
    tokens = torch.tensor([[[1, 2, 9], [9, 3, 4]]])
    assert shift_right(tokens, 9).tolist() == [[[9, 1, 2], [9, 9, 3]]]


@pytest.mark.parametrize(("K", "C", "T"), [(1, 1, 1), (4, 1, 7), (8, 2, 5), (2, 2, 3)])
def test_undo_is_the_inverse_and_the_mask_marks_codes(K, C, T):
    codes = torch.randint(0, 50, (2, K, T), generator=torch.Generator().manual_seed(1))
    tokens = apply_delay(codes, 50, C)
    assert tokens.shape[-1] == num_steps(T, K, C)
    assert torch.equal(undo_delay(tokens, C), codes)
    assert torch.equal((tokens != 50)[0], delay_mask(K, T, C))
