"""Whether a video shows one and the same thing: figures from what a judge sees in each of its frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pocket.judge import likeness


def identity_figures(members: Sequence[str], of_anchor: str | None) -> dict[str, float]:
    """members: what each frame shows. of_anchor: what the anchor shows, where there is one.

    `main_member`: the share of the frames that show the most frequent one.
    `anchor_member`: the share that show the anchor's; nan without an anchor.
    `identity_changes`: how often a frame shows another one than the frame before.
    """
    (_, most), *_ = Counter(members).most_common()
    return {
        "main_member": most / len(members),
        "anchor_member": members.count(of_anchor) / len(members) if of_anchor else np.nan,
        "identity_changes": float(sum(before != after for before, after in pairwise(members))),
    }


def resemblance(features: Tensor, of_anchor: Tensor | None) -> dict[str, float]:
    """features: of the frames, [F, D]. of_anchor: the anchor's, [1, D], where there is one.

    `subject_consistency`: VBench's, see `pocket.judge.likeness`.
    `likeness_to_anchor`: the mean cosine of the frames with the anchor; nan without one.
    """
    found = {"subject_consistency": likeness(features), "likeness_to_anchor": np.nan}
    if of_anchor is not None:
        found["likeness_to_anchor"] = F.cosine_similarity(features, of_anchor).mean().item()
    return found


def certainty(probabilities: Tensor, number: int) -> dict[str, float]:
    """Of frames' probabilities [F, N] that of one name: its mean and its lowest."""
    asked = probabilities[:, number]
    return {"mean_frame": asked.mean().item(), "worst_frame": torch.min(asked).item()}
