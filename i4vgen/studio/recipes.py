"""Recipes, which record in the app's files how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from i4vgen.config import GenerationConfig
from i4vgen.events import Selected
from i4vgen.storage.recipe import Recipe
from i4vgen.studio.state import Animation, AnimationSet, CandidateSet


@dataclass(frozen=True)
class Recipes:
    """Makes the recipes of the app's files.

    Attributes:
        metadata: Whether files record how they were made. If False, every recipe is None.
    """

    metadata: bool = True

    def of(
        self, config: GenerationConfig, made: Mapping[str, Any], anchor: Selected | None = None
    ) -> Recipe | None:
        """Returns the recipe of a run's files; None without `metadata`.

        Args:
            config: The run's configuration.
            made: The output of `Runtime.describe`.
            anchor: The anchor; None for files from before its selection.
        """
        return Recipe(config, made, anchor) if self.metadata else None

    def of_candidates(self, candidate_set: CandidateSet) -> Recipe | None:
        """Returns the recipe of a set of candidates; None without `metadata`."""
        config, _ = candidate_set.request
        return self.of(config, candidate_set.made)

    def of_animation(self, animation: Animation) -> Recipe | None:
        """Returns the recipe of the files made from an anchor; None without `metadata`."""
        return self.of(animation.config, animation.made, animation.anchor)

    def of_animations(self, animations: AnimationSet) -> Recipe | None:
        """Returns the recipe of a file with all animations of a run, without an anchor if there are several."""
        if len(animations.animations) == 1:
            return self.of_animation(animations.animations[0])
        first = animations.animations[0]
        return self.of(first.config, first.made)
