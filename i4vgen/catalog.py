"""The models and reward models by name.

A new model is one entry of `MODELS`; a new family of models is also one class (`backbones.base.Backbone`). A
new reward model is one entry of `REWARDS` and one class (`rewards.base.Reward`). The entries here name their
classes, which are imported on first use, so that the command line's help need not wait for torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from i4vgen import bundled
from i4vgen.bounds import MAX_LORAS, MAX_NAME, check_text, shown
from i4vgen.errors import InvalidInputError

if TYPE_CHECKING:
    from i4vgen.backbones.base import Backbone
    from i4vgen.rewards.base import Reward

ENVIRONMENT = "I4VGEN_MODEL"
"""The environment variable that names the model to use."""


def _network(folder: str, stem: str = "diffusion_pytorch_model") -> tuple[str, ...]:
    """The files of one network: not the half-precision copies and other variants that lie beside it."""
    names = ("config.json", f"{stem}.safetensors", f"{stem}.safetensors.index.json", f"{stem}-0*.safetensors")
    return tuple(f"{folder}{name}" for name in names)


ENCODERS = (*_network("vae/"), *_network("text_encoder/", "model"), "tokenizer/*")
DIFFUSERS_MODEL = (
    *_network("unet/"), *_network("transformer/"), *ENCODERS, "scheduler/*", *_network("motion_adapter/"),
    "reward/*", "model_index.json", "i4vgen.json",
)  # fmt: skip
WAN_MODEL = (*_network("transformer/"), *ENCODERS, "scheduler/*", "model_index.json")
ROOT_NETWORK = _network("")


@dataclass(frozen=True)
class Part:
    """One download of a model.

    repo_or_path: a folder or a hub id, OWNER/NAME or OWNER/NAME@REVISION. files: patterns of what is needed of
    it.
    """

    repo_or_path: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A model.

    Attributes:
        title: What people call it.
        implementation: The class that runs it, or where that is, as in "module:Class"; None for the one that
            the model's own model_index.json asks for.
        parts: What its class methods are given, by the names of their parameters.
        rewards: Names from `REWARDS`; the first one selects the anchor.
        takes: Which of "base" and "loras" a person may choose.
        download: Size in GB.
        memory: Of a GPU at the default settings, an estimate in GB.
        work: Of denoising a frame of latents, as a multiple of AnimateDiff's for the same size in pixels. From
            `python -m benchmarks.speed --flops`.
        loras: Those that were chosen.
        about: What people should know before they compare with it.
    """

    title: str
    implementation: type[Backbone] | str | None
    parts: Mapping[str, Part]
    rewards: tuple[str, ...]
    takes: tuple[str, ...] = ()
    licence: str = ""
    download: float = 0.0
    memory: float = 0.0
    work: float = 1.0
    loras: tuple[str, ...] = ()
    about: str = ""

    @property
    def backbone(self) -> type[Backbone]:
        """The class that runs it, imported if need be.

        Raises:
            ModelError: It depends on the model, which cannot be found.
        """
        return _resolve(self.implementation or _find_family(self.sources["model"]))

    @property
    def sources(self) -> dict[str, str]:
        """Where the parts are, by name."""
        return {name: part.repo_or_path for name, part in self.parts.items()}

    @property
    def downloads(self) -> list[Part]:
        """All that this model needs, its rewards included. Raises `ModelError` for a LoRA that cannot be."""
        from i4vgen.backbones import lora  # imports torch

        rewards = [part for name in self.rewards for part in REWARDS[name].parts.values()]
        loras = [Part(*lora.source(lora.parse(given)[0])) for given in self.loras]
        return [*self.parts.values(), *rewards, *loras]


# Pinned to the commits that public code pins. Sizes as the hub's pages give them.
SD_1_5 = Part(
    "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14", DIFFUSERS_MODEL
)
SD_1_4 = Part("CompVis/stable-diffusion-v1-4@133a221b8aa7292a167afc5127cb63fb5005638b", ENCODERS)
ADAPTER_2 = Part(
    "guoyww/animatediff-motion-adapter-v1-5-2@6167b88ffe39b4441fdf2113e77b99a6f56b7906", ROOT_NETWORK
)
ADAPTER_3 = Part(
    "guoyww/animatediff-motion-adapter-v1-5-3@2e8139b1d1269fd8a21deb96ad19455e187692eb", ROOT_NETWORK
)
SPARSECTRL = Part("guoyww/animatediff-sparsectrl-rgb@b8003d681d813c095e459b9141122894daff2d13", ROOT_NETWORK)
LAVIE = Part("Vchitect/LaVie@f3d06bfd93356330d57296aaee1b48690e929f08", ("lavie_base.pt",))
IMAGE_REWARD = Part(
    "zai-org/ImageReward@5736be03b2652728fb87788c9797b0570450ab72",
    (
        "ImageReward.pt",
        "med_config.json",
    ),
)
BERT = Part(
    "google-bert/bert-base-uncased@86b5e0934494bd15c9632b12f734a8a67f723594",
    (
        "token*",
        "*.txt",
    ),
)
PICK_SCORE = Part(
    "yuvalkirstain/PickScore_v1@a4e4367c6dfa7288a00c550414478f865b875800",
    (
        "config.json",
        "model.safetensors",
    ),
)
OPEN_CLIP = Part(  # whose weights PickScore and HPSv2.1 were trained from
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K@1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    (
        "*.json",
        "merges.txt",
    ),
)
HPSV2 = Part("xswu/HPSv2@697403c78157020a1ae59d23f111aa58ced35b0a", ("HPS_v2.1_compressed.pt",))
CLIP = Part(
    "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
    ("*.json", "merges.txt", "model.safetensors"),
)
POCKET = Part(str(bundled.POCKET), ())

WAN_1_3B = Part("Wan-AI/Wan2.1-T2V-1.3B-Diffusers@0fad780a534b6463e45facd96134c9f345acfa5b", WAN_MODEL)
WAN_5B = Part("Wan-AI/Wan2.2-TI2V-5B-Diffusers@b8fff7315c768468a5333511427288870b2e9635", WAN_MODEL)

ANIMATEDIFF = "i4vgen.backbones.animatediff:AnimateDiffBackbone"
WAN = "i4vgen.backbones.wan:WanBackbone"
WAN_IMAGE_TO_VIDEO = "i4vgen.backbones.wan:WanImageToVideoBackbone"

FAMILIES = {"WanPipeline": WAN, "WanImageToVideoPipeline": WAN_IMAGE_TO_VIDEO}
"""Who runs a model that is in no catalogue, by the class of its diffusers pipeline. All others: AnimateDiff."""

UNSEEN = "NI-VSDS has AnimateDiff's noise levels and step sizes here; nobody has judged them on this model."

WAN_2_2 = Entry(
    "Wan 2.2 5B",
    WAN,
    {"model": WAN_5B},
    ("image_reward",),
    takes=("loras",),
    licence="Apache-2.0",
    download=36.0,
    memory=30,
    work=2.8,
    about=UNSEEN,
)

MODELS = {
    "pocket": Entry(
        "Pocket",
        ANIMATEDIFF,
        {"model": POCKET},
        ("own",),
        licence="Apache-2.0",
        memory=1,
        about="All videos of a comparison come from the same weights and the same noise."
        " The noise schedule ends as early as pictures this small need it to: with AnimateDiff's, no trace of"
        " an anchor would outlive the noise.",
    ),
    "animatediff": Entry(
        "AnimateDiff",
        ANIMATEDIFF,
        {"model": SD_1_5, "motion_adapter": ADAPTER_2},
        ("image_reward",),
        takes=("base", "loras"),
        licence="CreativeML OpenRAIL-M (Stable Diffusion), Apache-2.0 (AnimateDiff)",
        download=6.1,
        memory=10,
    ),
    "lavie": Entry(
        "LaVie",
        "i4vgen.backbones.lavie:LaVieBackbone",
        {"model": LAVIE, "base": SD_1_4},
        ("image_reward",),
        licence="CreativeML OpenRAIL-M (Stable Diffusion); LaVie: free for research",
        download=4.5,
        memory=10,
    ),
    "sparsectrl": Entry(
        "SparseCtrl",
        "i4vgen.backbones.sparsectrl:SparseCtrlBackbone",
        {
            "model": SD_1_5,
            "motion_adapter": ADAPTER_3,
            "controlnet": SPARSECTRL,
        },
        ("image_reward",),
        takes=("base", "loras"),
        licence="CreativeML OpenRAIL-M (Stable Diffusion), Apache-2.0 (AnimateDiff)",
        download=7.9,
        memory=12,
    ),
    "wan": Entry(
        "Wan 2.1",
        WAN,
        {"model": WAN_1_3B},
        ("image_reward",),
        takes=("loras",),
        licence="Apache-2.0",
        download=30.7,
        memory=20,
        work=4.8,
        about=UNSEEN,
    ),
    "wan-5b": WAN_2_2,
    "wan-5b-i2v": replace(WAN_2_2, title=f"{WAN_2_2.title}, image to video", implementation=WAN_IMAGE_TO_VIDEO),
}


@dataclass(frozen=True)
class RewardEntry:
    """A reward model.

    Attributes:
        title: What people call it.
        loader: A callable that loads it, or where that is, as in "module:Class.from_pretrained". It is called
            with the sources of the parts by name, with the options and with `device`.
        parts: What has to be downloaded.
        options: Further arguments.
        download: Size in GB.
    """

    title: str
    loader: Callable[..., Reward] | str
    parts: Mapping[str, Part] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    download: float = 0.0

    def load(self, device: str, **sources: str) -> Reward:
        """Loads it from these sources, by the names of the parts.

        Raises:
            ModelError: Something is missing or damaged.
        """
        return _resolve(self.loader)(**sources, **self.options, device=device)


CLIP_SCORE = "i4vgen.rewards.clip:ClipScore.from_pretrained"

OWN_REWARD = "own"
"""The reward that a model brings along, in its folder reward/. Its source is the model's."""

REWARDS = {
    OWN_REWARD: RewardEntry("the model's own", "i4vgen.rewards.pocket:PocketReward.from_pretrained"),
    "image_reward": RewardEntry(
        "ImageReward",
        "i4vgen.rewards.image_reward:ImageReward.from_pretrained",
        {
            "model": IMAGE_REWARD,
            "tokenizer": BERT,
        },
        licence="Apache-2.0",
        download=1.8,
    ),
    "pick_score": RewardEntry(
        "PickScore",
        CLIP_SCORE,
        {"model": PICK_SCORE, "processor": OPEN_CLIP},
        {"name": "PickScore"},
        licence="none stated",
        download=3.9,
    ),
    "hpsv2": RewardEntry(
        "HPSv2.1",
        "i4vgen.rewards.hpsv2:load",
        {"model": HPSV2, "base": OPEN_CLIP},
        licence="Apache-2.0",
        download=2.0,
    ),
    "clip": RewardEntry(
        "CLIP score",
        CLIP_SCORE,
        {"model": CLIP, "processor": CLIP},
        {"name": "CLIP score"},
        licence="MIT (code)",
        download=1.7,
    ),
}


@dataclass(frozen=True)
class ModelSpec:
    """What a person chose to run.

    model: a name from `MODELS`, any folder or hub id in the diffusers layout, or "BASE+ADAPTER", both of them
    folders or hub ids. base: another Stable Diffusion 1.5 checkpoint under the motion modules. loras: folders,
    files or hub ids, each with a weight if "@WEIGHT" follows. rewards: names from `REWARDS`; None takes the
    model's.
    """

    model: str
    base: str | None = None
    loras: tuple[str, ...] = ()
    rewards: tuple[str, ...] | None = None

    def to_dict(self) -> dict:
        """As JSON types, for run.json: only what was chosen."""
        nothing = {"base": None, "loras": (), "rewards": None}  # rewards of () are a choice: nobody judges
        return {name: value for name, value in asdict(self).items() if value != nothing.get(name)}

    @classmethod
    def from_dict(cls, values: Mapping) -> ModelSpec:
        """The inverse of `to_dict`; what else is in there is ignored."""
        given = {name: values[name] for name in ("model", "base") if name in values}
        given |= {name: tuple(values[name]) for name in ("loras", "rewards") if name in values}
        return cls(**given)


def default_model(device: str | None = None) -> str:
    """What `ENVIRONMENT` names, else AnimateDiff on a GPU and the pocket model elsewhere.

    device: "cuda" or "cpu"; None for what this machine has.
    """
    if model := os.environ.get(ENVIRONMENT):
        return model
    if device is None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return "animatediff" if device == "cuda" else "pocket"


def find(spec: ModelSpec) -> Entry:
    """The entry of a choice.

    Nothing is looked up yet: whether the model exists shows when it is read. A reward that is named twice
    judges once. Raises `InvalidInputError` for what the model does not take.
    """
    for name in (spec.model, spec.base or "", *spec.loras):
        check_text("the name of a model", name, MAX_NAME)
    entry = _find_model(spec.model)
    for option in ("base", "loras"):
        if getattr(spec, option) and option not in entry.takes:
            able = ", ".join(name for name, entry in MODELS.items() if option in entry.takes)
            raise InvalidInputError(f"{spec.model} does not take --{option.rstrip('s')}: use it with {able}")
    if spec.base:
        entry = replace(entry, parts={**entry.parts, "model": Part(spec.base, DIFFUSERS_MODEL)})
    if spec.rewards is not None:
        if unknown := [name for name in spec.rewards if name not in REWARDS]:
            known = ", ".join(REWARDS)
            raise InvalidInputError(f"there is no reward {shown(unknown[0])}: use {known}, or none")
        entry = replace(entry, rewards=tuple(dict.fromkeys(spec.rewards)))
    if len(spec.loras) > MAX_LORAS:
        raise InvalidInputError(f"{len(spec.loras)} LoRAs are too many: use at most {MAX_LORAS}")
    return replace(entry, loras=spec.loras)


def _find_model(model: str) -> Entry:
    if model in MODELS:
        return MODELS[model]
    if not Path(model).exists() and "+" in model:
        base, adapter = model.split("+", 1)
        parts = {"model": Part(base, DIFFUSERS_MODEL), "motion_adapter": Part(adapter, ROOT_NETWORK)}
        return Entry(Path(model).name, ANIMATEDIFF, parts, ("image_reward",), takes=("base", "loras"))
    parts = {"model": Part(model, DIFFUSERS_MODEL)}
    return Entry(Path(model).name, None, parts, ("own",), takes=("base", "loras"))


def _find_family(model: str) -> str:
    """Where the class is that runs a model, a folder or a hub id, in the diffusers layout."""
    from i4vgen import hub  # imports torch

    index = hub.read_json(model, "model_index.json") or {}
    return FAMILIES.get(index.get("_class_name", ""), ANIMATEDIFF)


def _resolve(implementation: Any) -> Any:
    """A class or a callable, imported if only its place is given."""
    return resolve_name(implementation) if isinstance(implementation, str) else implementation
