"""What the files of this app say about how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from i4vgen.events import Selected
from i4vgen.generation_config import GenerationConfig
from i4vgen.recipe import Recipe
from i4vgen.ui.state import Animation, AnimationSet, CandidateSet

left_out = False
"""Whether they say nothing: for the whole process, so that none of the ways out can be forgotten."""


def recipe(config: GenerationConfig, made: Mapping[str, Any], anchor: Selected | None = None) -> Recipe | None:
    """The recipe of a run's files, see there; None where they say nothing."""
    return None if left_out else Recipe(config, made, anchor)


def of_candidates(candidate_set: CandidateSet) -> Recipe | None:
    """Of pictures that are no anchor yet."""
    config, _ = candidate_set.asked
    return recipe(config, candidate_set.made)


def of_animation(animation: Animation) -> Recipe | None:
    """Of everything that came of an anchor."""
    return recipe(animation.config, animation.made, animation.anchor)


def of_animations(animations: AnimationSet) -> Recipe | None:
    """Of what shows all that was animated together: of several anchors it names none."""
    if len(animations.animations) == 1:
        return of_animation(animations.animations[0])
    first = animations.animations[0]
    return recipe(first.config, first.made)
