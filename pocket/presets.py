"""What a pocket model is to learn, and its sizes. No other file knows a size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pocket.world import KINDS, MOTIONS, SETTINGS, Shown, members_of, words

POCKET = Path(__file__).parent.parent / "assets" / "pocket"  # the shipped model


@dataclass(frozen=True)
class Preset:
    """What the model is to learn and how large it is. Sizes of images are in pixels, of clips in frames."""

    size: int
    num_frames: int
    clips: int
    batch_images: int
    batch_clips: int
    batch_scenes: int  # each with `scene_motions` of the motions
    scene_motions: int = 3
    kinds: tuple[str, ...] = tuple(KINDS)
    settings: tuple[str, ...] = tuple(SETTINGS)
    motions: tuple[str, ...] = tuple(MOTIONS)
    fps: int = 8
    beta_end: float = 0.0065
    timesteps: int = 1_000
    patch: int = 8  # the VAE's downsampling factor
    latent_channels: int = 24
    vae_channels: tuple[int, ...] = (24, 48, 64, 96)
    unet_channels: tuple[int, ...] = (128, 176)
    cross_attention: tuple[bool, ...] = (True, False)
    attention_heads: int = 4
    text_width: int = 128
    text_layers: int = 3
    max_tokens: int = 20
    flow_heads: int = 4
    flow_head_width: int = 32
    flow_layers: int = 5
    images_first: int = 0  # steps of the flow model, before clips join in
    reward_size: int = 64  # pixels: what the reward looks at
    reward_width: int = 128
    reward_layers: int = 4

    @property
    def blind_from(self) -> int:
        """The first of the timesteps at which samplers of 16 steps and more begin, from noise alone."""
        return round(0.92 * self.timesteps)

    @property
    def members(self) -> tuple[str, ...]:
        """The members of all kinds, kind by kind."""
        return members_of(self.kinds)

    def numbers(self, shown: Shown) -> tuple[int, int, int, int]:
        """The places of a clip's kind, member, setting and motion among all that the model is to learn."""
        return (
            self.kinds.index(shown.kind),
            self.members.index(shown.member),
            self.settings.index(shown.setting),
            self.motions.index(shown.motion),
        )

    @property
    def words(self) -> list[str]:
        return words(self.kinds, self.settings, self.motions)

    @property
    def described(self) -> dict[str, object]:
        """What the i4vgen.json of a model of this world says of it."""
        return {
            "num_frames": self.num_frames,
            "height": self.size,
            "width": self.size,
            "fps": self.fps,
            "phrases": {
                "subject": [[name] for name in (*self.kinds, *self.members)],
                "motion": [list(MOTIONS[name]) for name in self.motions],
                "setting": [list(SETTINGS[name]) for name in self.settings],
            },
            "words": self.words,
        }


PRESETS = {
    # What two CPU cores can learn in a few hours.
    "cpu": Preset(
        size=96,
        num_frames=12,
        clips=12_000,
        batch_images=64,
        batch_clips=5,
        batch_scenes=1,
        images_first=2_000,
    ),
    # What a GPU can learn in about an hour.
    "gpu": Preset(
        size=128,
        num_frames=16,
        clips=24_000,
        batch_images=256,
        batch_clips=32,
        batch_scenes=8,
    ),
}

# So small a world that one CPU core learns in 20 minutes to draw it, though not yet to move it.
PRESETS["small-world"] = replace(
    PRESETS["cpu"],
    num_frames=8,
    kinds=("vehicle", "heart"),
    settings=("green hills", "sunset"),
    motions=("moving left", "moving right", "rising", "falling"),
    clips=3_000,
    batch_images=16,
    batch_clips=6,
    flow_heads=6,
    flow_layers=4,
    images_first=1_000,
)

# The pocket model itself, in batches for a GPU.
PRESETS["pocket"] = replace(PRESETS["cpu"], clips=24_000, batch_images=768, batch_clips=64, batch_scenes=8)

# A control for the evidence: the schedule goes on, as it began, to the noise that AnimateDiff's ends with.
PRESETS["long-schedule"] = replace(PRESETS["cpu"], beta_end=0.00856, timesteps=1_365)

# Two kinds in batches for a GPU: what a flow model can learn in ten minutes.
PRESETS["flow"] = replace(
    PRESETS["cpu"],
    kinds=PRESETS["small-world"].kinds,
    batch_images=384,
    batch_clips=64,
    flow_heads=6,
    flow_layers=6,
    images_first=500,
)
