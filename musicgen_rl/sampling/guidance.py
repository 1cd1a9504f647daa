"""Classifier-free guidance: the one formula."""

from torch import Tensor


def guide(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    """Push the prediction away from the null prompt's and past the prompt's.

    A model that caps its logits softly must cap both before they come here, never after.

    Args:
        conditional: logits given the prompt, [..., V].
        null: logits given the null or the negative prompt, [..., V].
        scale: 1 gives `conditional`, 0 gives `null`, more than 1 guides.

    Returns:
        null + scale * (conditional - null), [..., V].

    Source: arXiv:2306.05284, section 3 (sampling); arXiv:2410.06084, equation for the teacher.
    """
    return null + scale * (conditional - null)
