"""What a comparison reports: every figure must go up and down with what it is named after."""

import json
import math

import numpy as np
import pytest

from i4vgen.metrics import (
    UNLIKE,
    busiest_row,
    consistency,
    flicker_and_motion,
    frame_difference,
    measure,
    steadiness,
    xt_slice,
)
from i4vgen.storage.run_file import MeasuresFile


def slide(step: float, num_frames: int = 8, size: int = 64, sprite: bool = True) -> np.ndarray:
    """A sprite that glides to the right over a textured ground, `step` 64ths of the width per frame."""
    rng = np.random.default_rng(0)
    zoom = size // 64
    ground = rng.integers(60, 120, (64, 64, 3), dtype=np.uint8).repeat(zoom, 0).repeat(zoom, 1)
    thing = rng.integers(140, 256, (16, 16, 3), dtype=np.uint8).repeat(zoom, 0).repeat(zoom, 1)
    frames = np.stack([ground] * num_frames)
    for i, frame in enumerate(frames if sprite else ()):
        left = round((4 + step * i) * zoom)
        frame[24 * zoom : 40 * zoom, left : left + len(thing)] = thing
    return frames


def flicker(frames: np.ndarray) -> float:
    return flicker_and_motion(frames)[0]


def motion(frames: np.ndarray) -> float:
    return flicker_and_motion(frames)[1]


def pulse(frames: np.ndarray, by: int) -> np.ndarray:
    """Every other frame is brighter."""
    frames = frames.copy()
    frames[1::2] = np.minimum(frames[1::2].astype(int) + by, 255)
    return frames


def noisy(frames: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, deviation, frames.shape)
    return (frames + noise).clip(0, 255).astype(np.uint8)


def test_a_still_video_neither_moves_nor_flickers():
    assert flicker_and_motion(slide(0)) == (0, 0)


def test_faster_is_more_motion():
    by_speed = [motion(slide(speed)) for speed in (0, 0.5, 1, 2, 4)]
    assert by_speed == sorted(by_speed)
    assert len(set(by_speed)) == 5


def test_motion_is_about_how_far_things_travel():
    # The sprite covers a 16th of the frame and travels 2 / 64 of its width.
    assert motion(slide(2)) == pytest.approx(100 * 2 / 64 / 16, rel=0.6)


def test_motion_is_the_same_in_a_larger_and_longer_video():
    assert motion(slide(2, num_frames=16, size=512)) == pytest.approx(motion(slide(2)), rel=0.2)


def test_neither_light_nor_noise_is_motion():
    glide = motion(slide(1))
    assert motion(pulse(slide(0), 20)) < glide
    assert motion(noisy(slide(0), 8)) < glide


def test_gliding_is_not_flicker():
    assert flicker(slide(1)) < 0.2
    assert flicker(slide(3)) < 0.2 < 100 * frame_difference(slide(3))
    assert flicker(pulse(slide(0), 4)) > flicker(slide(1))


def test_a_steady_fade_is_not_flicker():
    assert flicker(pulse(slide(0, sprite=False), 8)) == pytest.approx(100 * 8 / 255, rel=0.1)
    ground = slide(0, sprite=False) + 8 * np.arange(8, dtype=np.uint8)[:, None, None, None]
    assert flicker(ground) < 0.05


def test_more_of_it_is_more_flicker():
    by_strength = [flicker(pulse(slide(1), by)) for by in (0, 5, 10, 20)]
    assert by_strength == sorted(by_strength) and len(set(by_strength)) == 4


def test_noise_flickers():
    assert flicker(noisy(slide(1), 8)) > 5 * flicker(slide(1))


def test_frames_in_the_wrong_order_flicker():
    frames = slide(2)
    assert flicker(frames[[3, 0, 6, 1, 7, 4, 2, 5]]) > 5 * flicker(frames)


def test_time_has_no_direction():
    assert flicker_and_motion(slide(2)[::-1]) == pytest.approx(flicker_and_motion(slide(2)), rel=0.05)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_too_short_to_say(num_frames):
    assert all(math.isnan(figure) for figure in flicker_and_motion(slide(1, num_frames)))


def test_every_shape_can_be_measured():
    wide = slide(1)[:, 10:51, :63]
    measures = measure(wide, wide[0], {"reward": 0.5})
    assert measures.flicker < 1 and measures.motion > 0 and measures.consistency > 90
    assert measures.rewards == {"reward": 0.5}


def test_frames_that_equal_the_anchor_are_all_of_it():
    frames = slide(0)
    assert consistency(frames, frames[0]) == pytest.approx(100, abs=0.01)


def test_what_moves_is_still_consistent():
    frames = slide(2)
    assert consistency(frames, frames[0]) > 90
    assert consistency(slide(2, sprite=False), frames[0]) < consistency(frames, frames[0]) - 5


def test_noise_and_other_colours_are_less_consistent():
    frames = slide(1)
    by_noise = [consistency(noisy(frames, deviation), frames[0]) for deviation in (0, 5, 15, 40)]
    assert by_noise == sorted(by_noise, reverse=True)
    assert consistency(255 - frames, frames[0]) < 50


def test_an_anchor_of_one_colour():
    plain = np.full((8, 64, 64, 3), 90, np.uint8)
    assert consistency(plain, plain[0]) == pytest.approx(100)
    assert consistency(slide(1), plain[0]) < 50


def turned(*degrees: float) -> np.ndarray:
    """Features of length 2 whose angles are these: cosines that can be written down."""
    angles = np.radians(degrees)
    return 2 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)


def test_steadiness_is_the_cosine_to_the_anchor_or_to_the_first_frame():
    video = turned(0, 60, 60, 120)
    own = steadiness("pocket", video)
    assert own.frames == (1.0, 0.5, 0.5, -0.5) and (own.by, own.from_anchor) == ("pocket", False)
    anchored = steadiness("pocket", video, anchor=turned(60)[0])
    assert anchored.frames == (0.5, 1.0, 1.0, 0.5) and anchored.from_anchor


def test_its_number_is_the_subject_consistency_of_vbench():
    # To the first frame 0.5, 0.5 and 0 (negative ones count as 0); to the frame before 0.5, 1 and 0.5.
    assert steadiness("pocket", turned(0, 60, 60, 120)).subject_consistency == 0.5
    with_anchor = steadiness("pocket", turned(0, 60, 60, 120), anchor=turned(90)[0])
    assert with_anchor.subject_consistency == 0.5, "the anchor plays no part in it"
    assert steadiness("pocket", turned(0, 0, 0)).subject_consistency == 1
    assert steadiness("pocket", turned(30)).subject_consistency == 1


def test_a_video_that_breaks_shows_where():
    broken = steadiness("pocket", turned(0, 5, 4, 80, 82, 81))
    assert [shade > 0.9 for shade in broken.shades] == [True] * 3 + [False] * 3
    assert broken.shades[0] == 1 and broken.shades[3] == 0 and broken.frames[3] < UNLIKE


def test_steadiness_in_run_json():
    frames = slide(1)
    assert "steadiness" not in measure(frames, frames[0], {}).to_dict(), "as files were before"
    measures = measure(frames, frames[0], {}, steadiness("pocket", turned(*range(8))))
    assert MeasuresFile.model_validate(json.loads(json.dumps(measures.to_dict()))).measures() == measures
    assert math.isnan(measure(frames, frames[0], {}).subject_consistency)


def test_frame_difference():
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[1] = 51
    assert frame_difference(frames) == pytest.approx(0.2)


def test_the_slice_shows_the_path_of_what_moves():
    frames = np.zeros((5, 20, 30, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[7, 3 * i] = 255
    picture = xt_slice(frames)
    assert picture.shape == (5, 30, 3) and picture.dtype == np.uint8
    assert picture[..., 0].argmax(axis=1).tolist() == [0, 3, 6, 9, 12]
    assert not xt_slice(frames, row=8).any()


def test_the_busiest_row_of_all_videos():
    quiet, busy = np.zeros((2, 5, 20, 30, 3), np.uint8)
    quiet[2, 4] = 10
    busy[1:, 11] = 200
    assert busiest_row(quiet) == 4
    assert busiest_row(quiet, busy) == 11
    assert busiest_row(np.zeros((3, 8, 8, 3), np.uint8)) == 0
