"""The reward models for real use, on small random checkpoints in the layouts that the hub has."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from i4vgen.errors import ModelError
from i4vgen.rewards import clip, hpsv2, image_reward
from i4vgen.rewards.base import FeatureReward
from i4vgen.rewards.clip import ClipScore
from i4vgen.rewards.image_reward import ImageReward
from i4vgen.rewards.pocket import PocketReward
from tests import parity
from tests.conftest import ROOT
from tests.support import parity_hpsv2
from tests.support.layouts_rewards import (
    SHA,
    write_bert_tokenizer,
    write_clip,
    write_hpsv2,
    write_hub_cache,
    write_image_reward,
    write_open_clip,
    write_pick_score,
)

PACKAGE_RUN = ROOT / "tests" / "data" / "image_reward_tiny"
HPSV2_RUN = ROOT / "tests" / "data" / "hpsv2_tiny" / "recording.safetensors"
PICK_SCORE, OPEN_CLIP = "yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
CLIP = "openai/clip-vit-large-patch14"
PROMPT = "a red rocket, rising"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one model each. Copy what is to be changed."""
    folder = tmp_path_factory.mktemp("rewards")
    write_image_reward(folder / "image_reward")
    write_bert_tokenizer(folder / "bert")
    write_pick_score(folder / "pick_score")
    write_open_clip(folder / "laion")
    write_hpsv2(folder / "hpsv2")
    write_clip(folder / "clip")
    return folder


@pytest.fixture
def copy(models, tmp_path):
    """An ImageReward with its vocabulary in a folder that may be changed."""
    shutil.copytree(models / "image_reward", tmp_path / "copy")
    shutil.copy(models / "bert" / "vocab.txt", tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def reward(models) -> ImageReward:
    return ImageReward.from_pretrained(str(models / "image_reward"), str(models / "bert"))


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Seven pictures of different sizes."""
    return parity_hpsv2.pictures()


def change_weights(folder, change) -> None:
    weights = torch.load(folder / "ImageReward.pt", weights_only=True)
    change(weights)
    torch.save(weights, folder / "ImageReward.pt")


def change_config(folder, **values) -> None:
    config = json.loads((folder / "med_config.json").read_text())
    (folder / "med_config.json").write_text(json.dumps(config | values))


def refusal(load, *args) -> str:
    """The one line that says why a model cannot be loaded."""
    with pytest.raises(ModelError) as caught:
        load(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def errors_in(printed: str) -> dict[str, float]:
    """The error of each step that `tests.parity` has printed."""
    return {name: float(error) for name, error in re.findall(r"^  (\S.*?) +(\S+)  ok$", printed, re.M)}


def test_image_reward_agrees_with_the_package(capsys):
    assert parity.main(["image_reward", str(PACKAGE_RUN)]) == 0
    printed = errors_in(capsys.readouterr().out)
    assert len(printed) == 8 and max(printed.values()) < 1e-5, printed


def test_tokens_are_those_of_the_package():
    """Its tokenizer was transformers' BERT tokenizer in Python, with two tokens added."""
    ours = ImageReward.from_pretrained(str(PACKAGE_RUN)).tokenizer
    theirs = BertTokenizerLegacy(str(PACKAGE_RUN / "vocab.txt"))
    theirs.add_special_tokens({"bos_token": "[DEC]"})
    theirs.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    assert ours.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [30522, 30523]
    assert len(ours) == len(theirs) == 30524
    how = {"padding": "max_length", "max_length": 35, "truncation": True}
    for prompt in (
        "",
        "A boat's café, 3.5!",
        "[ENC] a [DEC] b [dec]",
        "中文 한국어 🚀",
        "x" * 200,
        "cat " * 60,
    ):
        for part in ("input_ids", "attention_mask"):
            assert ours(prompt, **how)[part] == theirs(prompt, **how)[part], prompt


def test_a_score_does_not_depend_on_its_batch(reward, images, monkeypatch):
    together = reward.score(PROMPT, images)
    alone = [reward.score(PROMPT, [image])[0] for image in images]
    monkeypatch.setattr(clip, "BATCH", 3)
    sizes = []
    forward = reward.network.forward
    monkeypatch.setattr(
        reward.network, "forward", lambda pixels, *rest: sizes.append(len(pixels)) or forward(pixels, *rest)
    )
    in_threes = reward.score(PROMPT, images)
    assert sizes == [3, 3, 1]
    assert alone == pytest.approx(together, rel=1e-5, abs=1e-6)
    assert in_threes == pytest.approx(together, rel=1e-5, abs=1e-6)
    assert len(set(together)) == len(images)
    assert reward.score(PROMPT, []) == []


def test_the_prompt_counts(reward, images):
    assert reward.score(PROMPT, images) != reward.score("a blue car over a night", images)


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
def test_images_of_any_mode(reward, images, mode):
    """Scored like the same picture in RGB. 16 x 16 pixels, so that nothing is resized."""
    image = Image.new("I;16", (16, 16), 120) if mode == "I;16" else images[0].convert(mode)
    assert reward.score(PROMPT, [image]) == reward.score(PROMPT, [image.convert("RGB")])


def test_transparency_is_dropped_after_resizing(reward):
    """As the package does it: invisible pixels then do not bleed into their neighbours."""
    image = Image.new("RGBA", (32, 32), (200, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 16, 32))
    late = image.resize((16, 16), Image.Resampling.BICUBIC).convert("RGB")
    early = image.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
    assert reward.score(PROMPT, [image]) == reward.score(PROMPT, [late]) != reward.score(PROMPT, [early])


def test_the_middle_of_the_image_is_scored(reward, images):
    """19 x 16: of the 3 columns too many, torchvision cuts 2 from the left and 1 from the right."""
    wide = images[2]
    middle = wide.crop((2, 0, 18, 16))
    assert reward.score(PROMPT, [wide]) == reward.score(PROMPT, [middle])


def test_sizes_are_cut_to_whole_pixels(reward, images):
    """50 x 31 becomes 25.8 x 16: torchvision drops the fraction."""
    smaller = images[4].resize((25, 16), Image.Resampling.BICUBIC)
    assert reward.score(PROMPT, [images[4]]) == reward.score(PROMPT, [smaller])


def test_other_precision_and_the_older_file_format(reward, copy, images):
    weights = torch.load(copy / "ImageReward.pt", weights_only=True)
    torch.save(weights, copy / "ImageReward.pt", _use_new_zipfile_serialization=False)
    assert ImageReward.from_pretrained(str(copy)).score(PROMPT, images) == reward.score(PROMPT, images)
    half = ImageReward.from_pretrained(str(copy), dtype=torch.bfloat16)
    assert half.network.text_encoder.dtype == torch.bfloat16
    assert half.score(PROMPT, images) == pytest.approx(reward.score(PROMPT, images), abs=0.1)


def test_what_the_files_do_not_say_about_the_vit():
    """Heads: 3 in the recorded run; in the package's own two sizes whatever BERT has."""
    recorded = ImageReward.from_pretrained(str(PACKAGE_RUN)).network.visual_encoder.config
    assert (recorded.num_attention_heads, recorded.image_size, recorded.num_hidden_layers) == (3, 224, 2)
    for width, heads in ((768, 12), (1024, 16)):
        weights = {
            "visual_encoder.embeddings.patch_embedding.weight": torch.empty(width, 3, 16, 16, device="meta"),
            "visual_encoder.embeddings.position_embedding": torch.empty(1, 197, width, device="meta"),
            "visual_encoder.encoder.layers.0.mlp.fc1.bias": torch.empty(4 * width, device="meta"),
        }
        config = image_reward._vision_config({"hidden_size": 32, "num_attention_heads": 2}, weights)
        assert (config.num_attention_heads, config.image_size) == (heads, 224)
        assert config.layer_norm_eps == 1e-6


@pytest.mark.parametrize("name", ["ImageReward.pt", "med_config.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    assert name in refusal(ImageReward.from_pretrained, str(copy))


def test_a_missing_vocabulary_is_named(models):
    assert "vocab.txt" in refusal(
        ImageReward.from_pretrained, str(models / "image_reward"), str(models / "clip")
    )


def test_no_such_model():
    assert "no-such-folder" in refusal(ImageReward.from_pretrained, "no-such-folder")


@pytest.mark.parametrize("name", ["ImageReward.pt", "med_config.json", "vocab.txt"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_named(copy, name, share):
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: int(len(whole) * share)])
    assert name in refusal(ImageReward.from_pretrained, str(copy))


def test_a_file_of_another_kind_is_named(copy):
    (copy / "ImageReward.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "ImageReward.pt" in refusal(ImageReward.from_pretrained, str(copy))
    torch.save([torch.ones(2)], copy / "ImageReward.pt")
    assert "not a table of tensors" in refusal(ImageReward.from_pretrained, str(copy))


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": 32},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
        {"vocab_size": 30524},
        {"hidden_act": "no such thing"},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"intermediate_size": "32"},
    ],
)
def test_a_configuration_that_does_not_fit(copy, values):
    change_config(copy, **values)
    assert "med_config.json" in refusal(ImageReward.from_pretrained, str(copy))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.pop("blip.visual_encoder.pos_embed"),
        lambda w: w.pop("blip.visual_encoder.blocks.1.attn.qkv.bias"),
        lambda w: w.pop("blip.text_encoder.encoder.layer.0.crossattention.self.key.weight"),
        lambda w: w.pop("mlp.layers.7.bias"),
        lambda w: w.update({"blip.itm_head.weight": torch.ones(2, 2)}),
        lambda w: w.update({"mlp.layers.0.bias": torch.ones(31)}),
        lambda w: w.update({"blip.visual_encoder.pos_embed": torch.ones(3)}),
        lambda w: w.clear(),
    ],
)
def test_weights_that_do_not_fit(copy, change):
    change_weights(copy, change)
    assert "ImageReward.pt" in refusal(ImageReward.from_pretrained, str(copy))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(copy, tmp_path, zipped):
    torch.save(
        {"mlp": Malicious(tmp_path / "owned")},
        copy / "ImageReward.pt",
        _use_new_zipfile_serialization=zipped,
    )
    assert "more than tensors" in refusal(ImageReward.from_pretrained, str(copy))
    assert not (tmp_path / "owned").exists()


def theirs(model, processor, images) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' own way: (cosines times the learned scale, cosines)."""
    network = CLIPModel.from_pretrained(model)
    both = CLIPProcessor(
        CLIPImageProcessorPil.from_pretrained(processor), CLIPTokenizer.from_pretrained(processor)
    )
    inputs = both(text=[PROMPT[:8]], images=images, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = network(**inputs).logits_per_image[:, 0]
    return logits, logits / network.logit_scale.exp()


def test_pick_score_agrees_with_transformers(models, images):
    score = ClipScore.from_pretrained(str(models / "pick_score"), "PickScore", processor=str(models / "laion"))
    wanted, _ = theirs(models / "pick_score", models / "laion", images)
    assert score.score(PROMPT[:8], images) == pytest.approx(wanted.tolist(), rel=1e-4, abs=1e-5)


def test_clip_score_agrees_with_transformers(models, images):
    score = ClipScore.from_pretrained(str(models / "clip"), "CLIP score")
    _, cosine = theirs(models / "clip", models / "clip", images)
    assert cosine.min() != cosine.max()
    wanted = [100 * max(value, 0) for value in cosine.tolist()]
    assert score.score(PROMPT[:8], images) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_formulas():
    cosine, scale = torch.tensor([-0.5, 0.25]), torch.tensor(100.0).log()
    assert clip.clip_score(cosine, scale).tolist() == [0, 25]
    assert clip.pick_score(cosine, scale).tolist() == pytest.approx([-50, 25])
    assert hpsv2.hps(cosine, scale).tolist() == [-50, 25]


def test_clip_scores_do_not_depend_on_their_batch(models, images, monkeypatch):
    score = ClipScore.from_pretrained(str(models / "clip"), "CLIP score")
    together = score.score(PROMPT, images)
    monkeypatch.setattr(clip, "BATCH", 2)
    assert score.score(PROMPT, images) == pytest.approx(together, rel=1e-5, abs=1e-5)
    assert score.score(PROMPT, []) == []
    score.mean, score.std = 10, 2
    assert score.score(PROMPT, images) == pytest.approx([(s - 10) / 2 for s in together], rel=1e-4, abs=1e-5)


def test_clips_that_do_not_fit(models, tmp_path):
    def load(change) -> str:
        shutil.rmtree(tmp_path / "clip", ignore_errors=True)
        shutil.copytree(models / "clip", tmp_path / "clip")
        change(tmp_path / "clip")
        return refusal(ClipScore.from_pretrained, str(tmp_path / "clip"))

    def one_more_token(folder):
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        tokenizer.add_tokens("another")
        tokenizer.save_pretrained(folder)

    assert "clip" in load(lambda folder: (folder / "model.safetensors").unlink())
    assert "preprocessor_config.json" in load(lambda folder: (folder / "preprocessor_config.json").unlink())
    assert "tokenizer.json" in load(lambda folder: (folder / "tokenizer.json").unlink())
    assert "tokenizer.json" in load(lambda folder: (folder / "tokenizer.json").write_text('{"version": '))
    assert "tokens" in load(one_more_token)
    sizes = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
    assert "24 x 24" in load(lambda folder: CLIPImageProcessorPil(**sizes).save_pretrained(folder))


def test_hpsv2_agrees_with_open_clip_and_the_package(capsys):
    assert parity.main(["hpsv2", str(HPSV2_RUN)]) == 0
    printed = errors_in(capsys.readouterr().out)
    assert list(printed) == ["tokens", "pixels", "image features", "text features", "scores"]
    assert max(printed.values()) < 1e-5, printed


@pytest.fixture
def hps_copy(models, tmp_path):
    """An HPSv2.1 and a base in folders that may be changed."""
    shutil.copytree(models / "hpsv2", tmp_path / "hpsv2")
    shutil.copytree(models / "laion", tmp_path / "laion")
    return str(tmp_path / "hpsv2"), str(tmp_path / "laion")


def test_hpsv2_in_other_precisions_and_files(hps_copy, images):
    wanted = hpsv2.load(*hps_copy).score(PROMPT, images)
    assert len(set(wanted)) == len(images)
    half = hpsv2.load(*hps_copy, dtype=torch.bfloat16)
    assert half.clip.dtype == torch.bfloat16
    assert half.score(PROMPT, images) == pytest.approx(wanted, abs=1)
    file = Path(hps_copy[0], "HPS_v2.1_compressed.pt")
    weights = torch.load(file, weights_only=True)["state_dict"]
    torch.save({"state_dict": weights, "epoch": 1}, file, _use_new_zipfile_serialization=False)
    assert hpsv2.load(*hps_copy).score(PROMPT, images) == wanted


def test_hpsv2_takes_pictures_of_any_mode_and_shape(models, images):
    reward = hpsv2.load(str(models / "hpsv2"), str(models / "laion"))
    for mode in ("RGBA", "L", "P", "CMYK"):
        image = images[1].convert(mode)
        assert reward.score(PROMPT, [image]) == reward.score(PROMPT, [image.convert("RGB")])
    line = Image.new("RGB", (500, 1), "red")
    assert reward.to_pixels([line, line.transpose(Image.Transpose.ROTATE_90)]).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("visual.transformer.resblocks.1.attn.in_proj_bias"), "k_proj.bias: not there"),
        (lambda w: w.update({"visual.proj": torch.ones(3)}), r"visual_projection.weight: \(3,\) instead of"),
        (lambda w: w.update({"transformer.resblocks.0.attn.in_proj_bias": torch.ones(8)}), "4 weights differ"),
        (
            lambda w: w.update({"transformer.resblocks.0.attn.in_proj_bias": torch.tensor(0)}),
            "4 weights differ",
        ),
        (lambda w: w.update({"score_predictor.layers.0.bias": torch.ones(2)}), "score_predictor.*: unknown"),
        (lambda w: w.clear(), "weights differ"),
        (lambda w: w.update(epoch=3), "not a table of tensors"),
    ],
)
def test_other_networks_than_hpsv2_are_refused(hps_copy, change, reason):
    file = Path(hps_copy[0], "HPS_v2.1_compressed.pt")
    weights = torch.load(file, weights_only=True)["state_dict"]
    change(weights)
    torch.save({"state_dict": weights}, file)
    said = refusal(hpsv2.load, *hps_copy)
    assert re.search(reason, said) and file.name in said, said


def test_damaged_and_missing_files_of_hpsv2_are_named(hps_copy, tmp_path):
    file, config = Path(hps_copy[0], "HPS_v2.1_compressed.pt"), Path(hps_copy[1], "config.json")
    sizes = json.loads(config.read_text())
    for change in ({"text_config": sizes["text_config"] | {"num_attention_heads": 5}}, {"projection_dim": 3}):
        config.write_text(json.dumps(sizes | change))
        assert "config.json" in refusal(hpsv2.load, *hps_copy)
    config.write_text('{"text_config": ')
    assert "config.json" in refusal(hpsv2.load, *hps_copy)
    config.unlink()
    assert "has no config.json" in refusal(hpsv2.load, *hps_copy)
    config.write_text(json.dumps(sizes))
    Path(hps_copy[1], "tokenizer.json").unlink()
    assert "has no tokenizer.json" in refusal(hpsv2.load, *hps_copy)
    torch.save({"state_dict": {"visual.proj": Malicious(tmp_path / "owned")}}, file)
    assert "more than tensors" in refusal(hpsv2.load, *hps_copy)
    assert not (tmp_path / "owned").exists()
    file.write_bytes(file.read_bytes()[:100])
    assert "download it again from xswu/HPSv2" in refusal(hpsv2.load, *hps_copy)
    file.unlink()
    assert f"has no {file.name}" in refusal(hpsv2.load, *hps_copy)


LOADERS = {
    "ImageReward": lambda models, pocket: ImageReward.from_pretrained(
        str(models / "image_reward"), str(models / "bert")
    ),
    "PickScore": lambda models, pocket: ClipScore.from_pretrained(
        str(models / "pick_score"), "PickScore", processor=str(models / "laion")
    ),
    "CLIP score": lambda models, pocket: ClipScore.from_pretrained(str(models / "clip"), "CLIP score"),
    "HPSv2.1": lambda models, pocket: hpsv2.load(str(models / "hpsv2"), str(models / "laion")),
    "pocket": lambda models, pocket: PocketReward.from_pretrained(str(pocket)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_image_features_are_of_length_1_and_of_each_image_alone(models, pocket_dir, images, name, monkeypatch):
    reward = LOADERS[name](models, pocket_dir)
    assert reward.name == name and isinstance(reward, FeatureReward)
    features = reward.image_features([*images, images[0]])
    assert features.shape[0] == len(images) + 1 and features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    assert features[0] @ features[-1] == pytest.approx(1, abs=1e-5) and features[0] @ features[1] < 0.9999
    monkeypatch.setattr(clip, "BATCH", 2)
    assert reward.image_features(images[:3]) == pytest.approx(features[:3], abs=1e-4)


def test_a_clip_sees_in_an_image_what_it_scores(models, images):
    reward = LOADERS["CLIP score"](models, None)
    text = torch.nn.functional.normalize(reward.embed_prompt(PROMPT), dim=-1)[0].numpy()
    cosines = reward.image_features(images) @ text
    assert 100 * cosines.clip(min=0) == pytest.approx(reward.score(PROMPT, images), abs=1e-3)


def test_the_pocket_model_sees_that_a_subject_changed(pocket_dir):
    """On its real weights: a picture that is moved a little is more like itself than one of other colours."""
    y = np.mgrid[0:96, 0:96][0]
    scene = np.stack([(y > 60) * 120 + 60, y, 255 - y], axis=-1).astype(np.uint8)
    scene[30:60, 30:60] = [230, 40, 40]
    moved, changed = np.roll(scene, 4, axis=1), scene.copy()
    changed[30:60, 30:60] = [40, 60, 230]
    pictures = [Image.fromarray(each) for each in (scene, moved, changed)]
    own, near, far = PocketReward.from_pretrained(str(pocket_dir)).image_features(pictures)
    assert own @ near > own @ far


def test_everything_comes_from_the_cache_when_offline(offline, images):
    write_hub_cache(offline, "zai-org/ImageReward", write_image_reward)
    write_hub_cache(offline, "google-bert/bert-base-uncased", write_bert_tokenizer)
    write_hub_cache(offline, PICK_SCORE, write_pick_score)
    write_hub_cache(offline, OPEN_CLIP, write_open_clip)
    write_hub_cache(offline, hpsv2.MODEL, write_hpsv2)
    write_hub_cache(offline, CLIP, write_clip)
    for reward in (
        ImageReward.from_pretrained(),
        ImageReward.from_pretrained(f"zai-org/ImageReward@{SHA}"),
        ClipScore.from_pretrained(PICK_SCORE, "PickScore", processor=OPEN_CLIP),
        hpsv2.load(),
        ClipScore.from_pretrained(CLIP, "CLIP score"),
    ):
        assert len(reward.score(PROMPT, images)) == len(images)


def test_offline_without_the_model(offline):
    assert "zai-org/ImageReward" in refusal(ImageReward.from_pretrained)
    assert CLIP in refusal(ClipScore.from_pretrained, CLIP)
    write_hub_cache(offline, "zai-org/ImageReward", write_image_reward)
    assert "google-bert/bert-base-uncased" in refusal(ImageReward.from_pretrained)
