"""The catalogue of models and reward models.

To add a model, add an entry to `MODELS`; a new model family also needs a subclass of `backbones.base.Backbone`.
To add a reward model, add an entry to `REWARDS` and a class (`rewards.base.Reward`). Entries name their
classes, which are imported on first use, so that the command line's help does not wait for torch.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from i4vgen import bundled
from i4vgen.bounds import MAX_LORAS, MAX_NAME, check_text, short_name, shown
from i4vgen.errors import InvalidInputError
from i4vgen.models import library
from i4vgen.weights.names import MODEL_ID, check_access, is_hub_file, is_single_file

if TYPE_CHECKING:
    from i4vgen.backbones.base import Backbone
    from i4vgen.rewards.base import Reward

ENVIRONMENT = "I4VGEN_MODEL"
"""The environment variable with the default model."""


def _network(folder: str, stem: str = "diffusion_pytorch_model") -> tuple[str, ...]:
    """Returns the file patterns of one network, without variants such as half precision."""
    names = ("config.json", f"{stem}.safetensors", f"{stem}.safetensors.index.json", f"{stem}-0*.safetensors")
    return tuple(f"{folder}{name}" for name in names)


ENCODERS = (*_network("vae/"), *_network("text_encoder/", "model"), "tokenizer/*")
DIFFUSERS_MODEL = (
    *_network("unet/"), *_network("transformer/"), *ENCODERS, "scheduler/*", *_network("motion_adapter/"),
    "reward/*", "model_index.json", "i4vgen.json",
)  # fmt: skip
WAN_COMPANIONS = (*ENCODERS, "scheduler/*", "model_index.json")
WAN_MODEL = (*_network("transformer/"), *WAN_COMPANIONS)
ROOT_NETWORK = _network("")


@dataclass(frozen=True)
class Part:
    """A model, a part of one, or a LoRA, on the hub or on this machine.

    Attributes:
        repo_or_path: A folder, a single file, a hub id (`names.MODEL_ID`), or a file on the hub
            (`names.HUB_FILE`).
        files: Patterns of the files to download if `repo_or_path` is a hub id.
    """

    repo_or_path: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class ModelEntry:
    """A model.

    Attributes:
        title: The name that users see.
        implementation: The backbone class, or its import path as "module:Class". If None, the model's
            model_index.json determines the class.
        parts: The parts of the model, by parameter name of the class's `from_pretrained`.
        rewards: Names from `REWARDS`; the first one selects the anchor.
        takes: The options that users may set: names from `REPLACEMENTS`, and "loras".
        licence: The licences of the parts; empty if unknown.
        download: Size of the parts in GB, without reward models; 0 if unknown or not downloaded.
        work: The work of denoising a latent frame, relative to AnimateDiff's at the same size in pixels, as
            measured by `python -m benchmarks.speed --flops`.
        loras: The chosen LoRAs.
        about: A note for users who compare the model with others.
    """

    title: str
    implementation: type[Backbone] | str | None
    parts: Mapping[str, Part]
    rewards: tuple[str, ...]
    takes: tuple[str, ...] = ()
    licence: str = ""
    download: float = 0.0
    work: float = 1.0
    loras: tuple[str, ...] = ()
    about: str = ""

    @property
    def backbone(self) -> type[Backbone]:
        """The backbone class, imported on first use.

        Raises:
            ModelError: The model's model_index.json, which determines the class, cannot be read.
        """
        return _resolve(self.implementation or _find_family(self.sources["model"]))

    @property
    def sources(self) -> dict[str, str]:
        """The parts' folders, files or hub ids, by name."""
        return {name: part.repo_or_path for name, part in self.parts.items()}

    @property
    def downloads(self) -> list[Part]:
        """All parts that the model needs, including those of its reward models and LoRAs.

        Raises:
            ModelError: A LoRA does not exist, or its weight is not finite.
        """
        from i4vgen.backbones import lora  # imports torch

        rewards = [part for name in self.rewards for part in REWARDS[name].parts.values()]
        loras = [Part(*lora.source(lora.parse(given)[0])) for given in self.loras]
        return [*self.parts.values(), *rewards, *loras]


# Pinned to the commits that public code uses. Sizes are from the hub's pages.
SD_1_5 = Part(
    "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14", DIFFUSERS_MODEL
)
SD_1_4 = Part("CompVis/stable-diffusion-v1-4@133a221b8aa7292a167afc5127cb63fb5005638b", ENCODERS)
ADAPTER_2 = Part(
    "guoyww/animatediff-motion-adapter-v1-5-2@6167b88ffe39b4441fdf2113e77b99a6f56b7906", ROOT_NETWORK
)
WAN_5B_CHANNELS = 48  # latent channels of Wan 2.2 TI2V-5B; all other Wan models have 16
WAN_SIZES = {
    "wan": {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960},
    "wan-5b": {"num_layers": 30, "num_attention_heads": 24, "ffn_dim": 14336},
}
"""The sizes of the released transformers. The work at the default settings grows about with their product."""
ADAPTER_3 = Part(
    "guoyww/animatediff-motion-adapter-v1-5-3@2e8139b1d1269fd8a21deb96ad19455e187692eb", ROOT_NETWORK
)
SPARSECTRL = Part("guoyww/animatediff-sparsectrl-rgb@b8003d681d813c095e459b9141122894daff2d13", ROOT_NETWORK)
LAVIE = Part("Vchitect/LaVie@f3d06bfd93356330d57296aaee1b48690e929f08", ("lavie_base.pt",))
IMAGE_REWARD = Part(
    "zai-org/ImageReward@5736be03b2652728fb87788c9797b0570450ab72", ("ImageReward.pt", "med_config.json")
)
BERT = Part("google-bert/bert-base-uncased@86b5e0934494bd15c9632b12f734a8a67f723594", ("token*", "*.txt"))
PICK_SCORE = Part(
    "yuvalkirstain/PickScore_v1@a4e4367c6dfa7288a00c550414478f865b875800", ("config.json", "model.safetensors")
)
OPEN_CLIP = Part(  # the base of PickScore and HPSv2.1
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K@1c2b8495b28150b8a4922ee1c8edee224c284c0c", ("*.json", "merges.txt")
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
"""The backbones of models outside the catalogue, by diffusers pipeline. All others use AnimateDiff."""

ON_STABLE_DIFFUSION = ("base", "motion_module", "vae", "loras")
"""The options of a text-to-image model with motion modules."""

UNTUNED = "NI-VSDS uses AnimateDiff's noise levels and step sizes, which are untested on this model."

WAN_2_2 = ModelEntry(
    "Wan 2.2 5B",
    WAN,
    {"model": WAN_5B},
    ("image_reward",),
    takes=("loras",),
    licence="Apache-2.0",
    download=36.0,
    work=2.8,
    about=UNTUNED,
)

MODELS = {
    "pocket": ModelEntry(
        "Pocket",
        ANIMATEDIFF,
        {"model": POCKET},
        ("own",),
        licence="Apache-2.0",
        about="All videos of a comparison come from the same weights and the same noise. The noise schedule"
        " ends earlier than AnimateDiff's, which would leave no trace of an anchor in pictures this small.",
    ),
    "animatediff": ModelEntry(
        "AnimateDiff",
        ANIMATEDIFF,
        {"model": SD_1_5, "motion_adapter": ADAPTER_2},
        ("image_reward",),
        takes=ON_STABLE_DIFFUSION,
        licence="CreativeML OpenRAIL-M (Stable Diffusion), Apache-2.0 (AnimateDiff)",
        download=6.1,
    ),
    "lavie": ModelEntry(
        "LaVie",
        "i4vgen.backbones.lavie.backbone:LaVieBackbone",
        {"model": LAVIE, "base": SD_1_4},
        ("image_reward",),
        takes=("vae",),
        licence="CreativeML OpenRAIL-M (Stable Diffusion); LaVie: free for research",
        download=4.5,
    ),
    "sparsectrl": ModelEntry(
        "SparseCtrl",
        "i4vgen.backbones.sparsectrl:SparseCtrlBackbone",
        {"model": SD_1_5, "motion_adapter": ADAPTER_3, "controlnet": SPARSECTRL},
        ("image_reward",),
        takes=ON_STABLE_DIFFUSION,
        licence="CreativeML OpenRAIL-M (Stable Diffusion), Apache-2.0 (AnimateDiff)",
        download=7.9,
    ),
    "wan": ModelEntry(
        "Wan 2.1",
        WAN,
        {"model": WAN_1_3B},
        ("image_reward",),
        takes=("loras",),
        licence="Apache-2.0",
        download=30.7,
        work=4.8,
        about=UNTUNED,
    ),
    "wan-5b": WAN_2_2,
    "wan-5b-i2v": replace(WAN_2_2, title=f"{WAN_2_2.title}, image to video", implementation=WAN_IMAGE_TO_VIDEO),
}


@dataclass(frozen=True)
class Replacement:
    """An option to replace a part of a model with another file, folder or hub id.

    It has the same name in `REPLACEMENTS`, on the command line, in the form, the endpoints and run files.

    Attributes:
        part: The name of the part in `ModelEntry.parts`.
        kind: The kind of file in the `library`.
        files: Patterns of the files to download; None means those of the replaced part.
        label: The label in the form.
        help: The description for users.
    """

    part: str
    kind: str
    files: tuple[str, ...] | None
    label: str
    help: str


REPLACEMENTS = {
    "base": Replacement(
        "model", library.MODEL, None, "Base model",
        "Another Stable Diffusion 1.5 checkpoint: a file, a folder or a hub id.",
    ),
    "motion_module": Replacement(
        "motion_adapter", library.MOTION_MODULE, ROOT_NETWORK, "Motion module",
        "Another AnimateDiff motion module for Stable Diffusion 1.5: a file, a folder or a hub id.",
    ),
    "vae": Replacement(
        "vae", library.VAE, (*ROOT_NETWORK, *_network("vae/")), "VAE",
        "Another VAE for Stable Diffusion 1.5: a file, a folder or a hub id.",
    ),
}  # fmt: skip
"""The parts of a model that users may replace, by option name."""


@dataclass(frozen=True)
class RewardEntry:
    """A reward model.

    Attributes:
        title: The name that users see.
        loader: The function that loads the model, or its import path, such as "module:Class.from_pretrained".
            It takes the sources of the parts by name, the options and `device`.
        parts: The parts of the model, by parameter name of the loader.
        options: Further arguments of the loader.
        licence: The licence of the model; empty if unknown.
        download: Size of the parts in GB.
    """

    title: str
    loader: Callable[..., Reward] | str
    parts: Mapping[str, Part] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    download: float = 0.0

    def load(self, device: str, **sources: str) -> Reward:
        """Loads the reward model.

        Args:
            device: The device to load it on.
            sources: The folders, files or hub ids of the parts, by name.

        Raises:
            ModelError: A part is missing or damaged.
        """
        return _resolve(self.loader)(**sources, **self.options, device=device)


CLIP_SCORE = "i4vgen.rewards.clip:ClipScore.from_pretrained"

OWN_REWARD = "own"
"""The reward in a model's own folder reward/."""

REWARDS = {
    OWN_REWARD: RewardEntry("the model's own", "i4vgen.rewards.pocket:PocketReward.from_pretrained"),
    "image_reward": RewardEntry(
        "ImageReward",
        "i4vgen.rewards.image_reward:ImageReward.from_pretrained",
        {"model": IMAGE_REWARD, "tokenizer": BERT},
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
    """A user's choice of a model. Files in a folder of the `library` may be named without the folder.

    A single file may also be on the hub: OWNER/NAME/FILE.

    Attributes:
        model: A name from `MODELS`, a folder or hub id in the diffusers layout, a single file (a Stable
            Diffusion 1.5 checkpoint or a Wan transformer), or "BASE+ADAPTER".
        base: Another Stable Diffusion 1.5 checkpoint; for a Wan transformer, a model with the other networks.
        loras: Folders, files or hub ids, each optionally followed by "@WEIGHT".
        rewards: Names from `REWARDS`; None uses the model's defaults.
        motion_module: Another motion module: a single file, a folder or a hub id.
        vae: Another VAE: a single file, a folder or a hub id.
    """

    model: str
    base: str | None = None
    loras: tuple[str, ...] = ()
    rewards: tuple[str, ...] | None = None
    motion_module: str | None = None
    vae: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the chosen model, replacements and LoRAs."""
        return tuple(filter(None, (self.model, *self.replacements.values(), *self.loras)))

    @property
    def replacements(self) -> dict[str, str]:
        """The chosen replacements, by their names in `REPLACEMENTS`."""
        return {name: chosen for name in REPLACEMENTS if (chosen := getattr(self, name))}

    def to_dict(self) -> dict:
        """Returns the fields that differ from their defaults, for run.json. Empty `rewards` are kept."""
        return {
            each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default
        }

    @classmethod
    def from_dict(cls, values: Mapping) -> ModelSpec:
        """Builds a choice from the output of `to_dict`, ignoring other keys."""
        given = {name: values[name] for name in ("model", *REPLACEMENTS) if name in values}
        given |= {name: tuple(values[name]) for name in ("loras", "rewards") if name in values}
        return cls(**given)


def default_model(device: str | None = None) -> str:
    """Returns the name of the default model: from `ENVIRONMENT`, else AnimateDiff on CUDA, else pocket.

    Args:
        device: The name of a device, such as "cuda:1"; None means CUDA if it is available.
    """
    if model := os.environ.get(ENVIRONMENT):
        return model
    if device is None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return "animatediff" if device.partition(":")[0] == "cuda" else "pocket"


def find(spec: ModelSpec) -> ModelEntry:
    """Returns the catalogue entry for a choice.

    Single files are recognised by their headers; a file on the hub is downloaded first. Folders and hub ids are
    not checked before loading, except that replacing a part of one reads its model_index.json.

    Raises:
        InvalidInputError: A choice is invalid or not supported by the model.
        ModelError: A name is a path that cannot be looked up, a single file is missing, damaged, or of an
            unsupported kind, or a model_index.json cannot be read.
    """
    for name in (spec.model, *spec.names):
        check_text("the name of a model", name, MAX_NAME)
        check_access(name)
    entry = _find_model(library.locate(spec.model, library.MODEL))
    for option in (*REPLACEMENTS, "loras"):
        if getattr(spec, option) and not _takes(entry, option):
            able = ", ".join(name for name, entry in MODELS.items() if option in entry.takes)
            option = option.rstrip("s").replace("_", "-")
            raise InvalidInputError(f"{spec.model} does not take --{option}: use it with {able}")
    for option, chosen in spec.replacements.items():
        replacement = REPLACEMENTS[option]
        place = library.locate(chosen, replacement.kind)
        _check_kind(place, option)
        files = entry.parts[replacement.part].files if replacement.files is None else replacement.files
        entry = replace(entry, parts={**entry.parts, replacement.part: Part(place, files)})
    if spec.rewards is not None:
        if unknown := [name for name in spec.rewards if name not in REWARDS]:
            known = ", ".join(REWARDS)
            raise InvalidInputError(f"there is no reward {shown(unknown[0])}: use {known}, or none")
        entry = replace(entry, rewards=tuple(dict.fromkeys(spec.rewards)))
    if len(spec.loras) > MAX_LORAS:
        raise InvalidInputError(f"{len(spec.loras)} LoRAs are too many: use at most {MAX_LORAS}")
    return replace(entry, loras=tuple(map(library.locate_lora, spec.loras)))


def _takes(entry: ModelEntry, option: str) -> bool:
    """Returns whether a model supports an option. For folders and hub ids, the class must load the part."""
    if option not in entry.takes or option not in REPLACEMENTS or entry.implementation is not None:
        return option in entry.takes
    return REPLACEMENTS[option].part in signature(entry.backbone.from_pretrained).parameters


def of_variant(entry: ModelEntry, variant: str) -> ModelEntry:
    """Returns the entry with the file patterns of a variant of the weights, such as "fp16".

    Raises:
        InvalidInputError: The model has no variants.
        ModelError: The model's model_index.json, which determines its class, cannot be read.
    """
    if "variant" not in signature(entry.backbone.from_pretrained).parameters:
        raise InvalidInputError(f"{entry.title} has no variants of its weights: leave variant out")

    def renamed(pattern: str) -> str:
        pattern = pattern.replace(".safetensors.index.json", f".safetensors.index.{variant}.json")
        return re.sub(r"(model)(-0\*)?\.safetensors$", rf"\1.{variant}\2.safetensors", pattern)

    parts = {name: replace(part, files=tuple(map(renamed, part.files))) for name, part in entry.parts.items()}
    return replace(entry, parts=parts)


def _find_model(model: str) -> ModelEntry:
    if model in MODELS:
        return MODELS[model]
    if (pair := split_pair(model)) is not None:
        base, adapter = pair
        parts = {"model": Part(base, DIFFUSERS_MODEL), "motion_adapter": Part(adapter, ROOT_NETWORK)}
        return ModelEntry(Path(model).name, ANIMATEDIFF, parts, ("image_reward",), takes=ON_STABLE_DIFFUSION)
    if is_single_file(model):
        return _find_single_file(model)
    parts = {"model": Part(model, DIFFUSERS_MODEL)}
    return ModelEntry(Path(model).name, None, parts, ("own",), takes=ON_STABLE_DIFFUSION)


def split_pair(model: str) -> tuple[str, str] | None:
    """Splits BASE+ADAPTER; returns None for a single model.

    A "+" may also be part of a path, so the first one between two existing paths or hub names is preferred.
    """
    if "+" not in model or Path(model).exists():
        return None
    pairs = [(model[: at.start()], model[at.end() :]) for at in re.finditer(r"\+", model)]
    for pair in pairs:
        if all(Path(part).exists() or MODEL_ID.fullmatch(part) or is_hub_file(part) for part in pair):
            return pair
    return None if is_single_file(model) else pairs[0]


def _find_single_file(model: str) -> ModelEntry:
    """Returns the entry for a single file, with the other networks that it needs.

    A Stable Diffusion checkpoint gets AnimateDiff's motion modules; a Wan transformer gets the other networks
    of Wan 2.2 5B or Wan 2.1, depending on its number of latent channels. Its work follows from its size.
    """
    from i4vgen.weights import families, hub  # imports torch

    title, parts = Path(model).stem, {"model": Part(model, ())}
    if hub.kind_of(model) == families.WAN:
        config = hub.read_json(model, "transformer/config.json") or {}
        name = "wan-5b" if config["in_channels"] == WAN_5B_CHANNELS else "wan"
        released = MODELS[name]
        companion = replace(released.parts["model"], files=WAN_COMPANIONS)
        parts = {"model": companion, "transformer": Part(model, ())}
        work = released.work * math.prod(config[key] / size for key, size in WAN_SIZES[name].items())
        return ModelEntry(
            title, WAN, parts, released.rewards, ("base", "loras"), work=work, about=released.about
        )
    _check_kind(model, "model")
    parts["motion_adapter"] = ADAPTER_2
    takes = tuple(option for option in ON_STABLE_DIFFUSION if option != "base")
    return ModelEntry(title, ANIMATEDIFF, parts, ("image_reward",), takes=takes)


def _check_kind(model: str, option: str) -> None:
    """Raises `InvalidInputError` if a single file is of the wrong kind for an option."""
    if not is_single_file(model):
        return
    from i4vgen.weights import families, hub, single_file

    kind = hub.kind_of(model)
    fitting = {families.MOTION_MODULE: "motion_module", families.VAE: "vae", families.WAN: "model"}
    if (wanted := fitting.get(kind, option if option == "base" else "model")) != option:
        name, wanted = short_name(model), wanted.replace("_", "-")
        raise InvalidInputError(f"{name} is {single_file.with_article(kind)}: give it with --{wanted}")


def _find_family(model: str) -> str:
    """Returns the import path of the backbone for a model in the diffusers layout."""
    from i4vgen.weights import hub  # imports torch

    index = hub.read_json(model, "model_index.json") or {}
    return FAMILIES.get(index.get("_class_name", ""), ANIMATEDIFF)


def _resolve(implementation: Any) -> Any:
    """Imports a class or function that is given by its import path; returns others unchanged."""
    return resolve_name(implementation) if isinstance(implementation, str) else implementation
