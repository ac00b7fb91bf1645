"""Rewards that are a CLIP and nothing else: PickScore and the CLIP score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from i4vgen import hub
from i4vgen.errors import ModelError

T = TypeVar("T", bound=hub.Loadable)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
BATCH = 16  # images per forward pass: bounds the memory, whatever the number of candidates


def pick_score(cosine: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Cosine times the learned scale: around 20 with the released model (Kirstain et al. 2023,
    arXiv 2305.01569).
    """
    return logit_scale.exp() * cosine


def clip_score(cosine: torch.Tensor, _logit_scale: torch.Tensor) -> torch.Tensor:
    """Cosine, at least 0, in hundredths: 0 to 100 (Hessel et al. 2021, arXiv 2104.08718, who multiply by 2.5;
    by 100 is what people report).
    """
    return 100 * cosine.clamp(min=0)


FORMULAS = {"PickScore": pick_score, "CLIP score": clip_score}


class ClipScore:
    """Scores images by how similar CLIP finds them to the prompt."""

    def __init__(
        self,
        name: str,
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        to_pixels: Callable[[list[Image.Image]], torch.Tensor],
        formula: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        mean: float = 0.0,
        std: float = 1.0,
    ):
        """to_pixels: images of any size and mode -> [B, 3, S, S], as the model was trained.
        formula: cosines [B] and the model's logit scale -> scores [B].
        mean, std: of the formula's scores over generated candidates; 0 and 1 leave them on their customary
        scale.
        """
        self.name = name
        self.clip: Any = clip  # whose annotations leave open what its parts are
        self.tokenizer = tokenizer
        self.to_pixels = to_pixels
        self.formula = formula
        self.mean = mean
        self.std = std

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        name: str = "CLIP score",
        device: str = "cpu",
        processor: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> ClipScore:
        """Loads a score of `FORMULAS`, on its customary scale: not mean 0, deviation 1.

        model: a folder or a hub id of a CLIPModel: yuvalkirstain/PickScore_v1, openai/clip-vit-large-patch14.
        processor: the same for its tokenizer and preprocessor_config.json, None if they lie with the model.
        PickScore's are those of laion/CLIP-ViT-H-14-laion2B-s32B-b79K. dtype: None for float32.
        Raises `ModelError` if anything is missing, damaged or does not fit together.
        """
        processor = processor or model
        tokenizer = _load(CLIPTokenizer, processor, TOKENIZER_FILES)
        image_processor = _load(CLIPImageProcessorPil, processor, ("preprocessor_config.json",))
        clip: Any = hub.load(CLIPModel, model, "", dtype or torch.float32)
        clip.to(device)

        def to_pixels(images: list[Image.Image]) -> torch.Tensor:
            return image_processor(images, return_tensors="pt").pixel_values

        words, size = clip.config.text_config.vocab_size, clip.config.vision_config.image_size
        if len(tokenizer) != words:
            raise ModelError(
                f"the tokenizer in {processor} has {len(tokenizer)} tokens, {model} knows {words}:"
                " download both again"
            )
        if (given := to_pixels([Image.new("RGB", (8, 8))]).shape[-2:]) != (size, size):
            raise ModelError(
                f"preprocessor_config.json in {processor} makes images of {given[1]} x {given[0]}, {model}"
                f" wants {size} x {size}: download both again"
            )
        return cls(name, clip, tokenizer, to_pixels, FORMULAS[name])

    @torch.inference_mode()
    def score(self, prompt: str, images: list[Image.Image]) -> list[float]:
        """One score per image of any size and mode. Higher is better."""
        # One prompt needs no padding. Longer ones than the model can read are cut.
        length = self.clip.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt")
        text = self.clip.get_text_features(**tokens.to(self.clip.device)).pooler_output.float()
        scores = []
        for start in range(0, len(images), BATCH):
            pixels = self.to_pixels(images[start : start + BATCH]).to(self.clip.device, self.clip.dtype)
            pictures = self.clip.get_image_features(pixel_values=pixels).pooler_output.float()
            cosine = F.cosine_similarity(pictures, text)
            scores += ((self.formula(cosine, self.clip.logit_scale.float()) - self.mean) / self.std).tolist()
        return scores


def _load(cls: type[T], model: str, files: Sequence[str]) -> T:
    """The tokenizer or the image processor of a model. Raises `ModelError` if it is missing or damaged.

    files: the one that must be there, then those that may.
    """
    found = [hub.file(model, name) for name in files]
    if found[0] is None:
        raise ModelError(f"{model} has no {files[0]}: download it again")
    try:
        with hub.quiet():
            return cls.from_pretrained(found[0].parent)
    except Exception as error:  # tokenizers raises bare Exception for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"cannot load {found[0]} ({reason}): download it again") from error
