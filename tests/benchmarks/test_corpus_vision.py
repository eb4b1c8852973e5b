from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from benchmarks.corpus.base import Score, Split, compare
from benchmarks.corpus.classify import Item, accuracy
from benchmarks.corpus.drawn_text import SETS, random_of, third
from benchmarks.corpus.fashion import TASKS as FASHION
from benchmarks.corpus.ocr import boxes_of, characters, ctc_text, f1, overlaps
from benchmarks.corpus.pages import line_input, middle_input, page_input
from benchmarks.corpus.photos import set_of, stamps
from benchmarks.corpus.resizing import Image, Kernel, resize
from benchmarks.corpus.small_images import cut
from benchmarks.corpus.tasks import TASKS, task_named
from graphshrink.ir.types import Array
from testmodels.mnist import Mnist
from tests.models import two_layers

NO_BOXES = np.zeros((0, 4))


def random_image(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


# ---- the registry


def test_each_task_is_found_by_its_own_name() -> None:
    assert [task_named(task.name) for task in TASKS] == list(TASKS)


def test_there_is_no_task_of_another_name() -> None:
    with pytest.raises(KeyError):
        task_named("digit")


# ---- paired differences


def test_models_that_answer_alike_differ_by_nothing() -> None:
    score = Score("accuracy", np.array([0.0, 1.0, 1.0]))
    difference = compare(score, score)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_the_same_loss_on_every_item_leaves_no_doubt() -> None:
    original = Score("F1", np.linspace(0.5, 1, 50), np.arange(1.0, 51))
    difference = compare(original, Score("F1", original.values - 0.25))
    assert (difference.value, difference.low, difference.high) == pytest.approx((-0.25, -0.25, -0.25))


def test_the_interval_is_that_of_a_mean() -> None:
    random = np.random.default_rng(0)
    before, after = random.integers(0, 2, (2, 2000)).astype(np.float64)
    difference = compare(Score("accuracy", before), Score("accuracy", after))
    error = (after - before).std() / np.sqrt(2000)
    assert difference.value == pytest.approx((after - before).mean())
    # 2,000 draws know the ends of an interval to about a twentieth of its half
    assert difference.low == pytest.approx(difference.value - 1.96 * error, abs=0.1 * error)
    assert difference.high == pytest.approx(difference.value + 1.96 * error, abs=0.1 * error)


def test_items_differ_by_their_weights() -> None:
    original, other = Score("F1", np.array([1.0, 1.0]), np.array([3.0, 1.0])), Score("F1", np.array([1.0, 0.0]))
    assert compare(original, other).value == pytest.approx(-0.25)


def test_scores_of_other_items_are_not_compared() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        compare(Score("accuracy", np.ones(3)), Score("accuracy", np.ones(2)))


def test_a_score_that_is_no_number_says_nothing() -> None:
    difference = compare(Score("accuracy", np.ones(2)), Score("accuracy", np.array([1.0, np.nan])))
    assert (difference.low, difference.high) == (-np.inf, np.inf)


# ---- classifiers


def test_an_item_counts_the_share_of_its_views_that_are_right() -> None:
    def identity(feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {"logits": feeds["input"]}

    views = np.eye(3)
    items = [Item([views[0:1]], [0]), Item([views[0:1], views[1:2]], {0, 2}), Item([views[2:3]], [1])]
    found = accuracy(identity, items, source="input", target="logits", metric="top-1")
    assert (found.metric, found.values.tolist(), found.weights) == ("top-1", [1.0, 0.5, 0.0], None)


@pytest.mark.parametrize(("split", "count"), [("development", 500), ("test", 1500)])
def test_the_shipped_slice_scores_a_tenth_for_a_model_that_always_says_the_same(split: Split, count: int) -> None:
    def same(feeds: Mapping[str, Array]) -> dict[str, Array]:
        (images,) = feeds.values()
        assert images.shape == (1, 1, 28, 28)
        return {"logits": np.eye(10)[:1]}

    task = next(task for task in FASHION if task.shipped)
    score = task.score(same, split)
    assert score.n == count
    assert score.value == pytest.approx(0.1, abs=0.02)  # neither part is quite balanced


def test_digits_calibrate_with_drawn_ones_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHSHRINK_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no npm
    feeds = task_named("lenet-5").calibration(7)
    with np.load(Path(__file__).parents[2] / "testmodels" / "digits_calibration.npz") as file:
        np.testing.assert_array_equal(np.concatenate([feed["input"] for feed in feeds]), file["input"][:7])


# ---- no item is in two sets


def test_images_are_cut_into_sets_that_share_none() -> None:
    images = np.arange(100, dtype=np.uint8).repeat(28 * 28).reshape(100, 28, 28)
    labels = np.arange(100, dtype=np.uint8)
    sets = cut(Mnist(images[:80], labels[:80], images[80:], labels[80:]), calibration=10, development=8)
    assert sets.calibration[:, 0, 0].tolist() == list(range(70, 80))
    assert sets.development.labels.tolist() == sets.development.images[:, 0, 0].tolist() == list(range(80, 88))
    assert sets.test.labels.tolist() == sets.test.images[:, 0, 0].tolist() == list(range(88, 100))


def test_photos_of_a_class_are_in_one_set() -> None:
    labelled = [stamp for stamp in stamps() if stamp.classes]
    classes = {
        split: {number for stamp in labelled if set_of(stamp.classes) == split for number in stamp.classes}
        for split in ("development", "test")
    }
    assert len(labelled) == 131
    assert classes["development"]
    assert not classes["development"] & classes["test"]


def test_no_stamp_is_listed_twice() -> None:
    table = stamps()
    assert len({stamp.sha256 for stamp in table}) == len({Path(stamp.path).name for stamp in table}) == len(table)


def test_sets_of_drawn_text_share_no_word() -> None:
    words = [f"word{i}" for i in range(10)]
    parts = [third(words, split) for split in SETS]
    assert sorted(word for part in parts for word in part) == sorted(words)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_items_are_drawn_from_numbers_of_their_own() -> None:
    seeds = list(product(range(2), SETS, range(3)))
    assert len({random_of(*seed).bytes(16) for seed in seeds}) == len(seeds)
    assert random_of(*seeds[0]).bytes(16) == random_of(*seeds[0]).bytes(16)


# ---- text


def steps(*classes: int) -> NDArray[np.float32]:
    return np.eye(4, dtype=np.float32)[list(classes)]


def test_repetitions_count_once_unless_a_blank_is_between() -> None:
    assert ctc_text(steps(0, 1, 1, 0, 1, 2, 2, 3, 0), ["", "a", "b", " "]) == "aab "


def test_blanks_alone_are_no_text() -> None:
    assert ctc_text(steps(0, 0, 0), ["", "a", "b", " "]) == ""


def test_the_characters_are_those_of_the_metadata_between_blank_and_space(tmp_path: Path) -> None:
    model = two_layers()
    onnx.helper.set_model_props(model, {"character": "'\n疗\n0\n"})
    onnx.save(model, tmp_path / "rec.onnx")
    assert characters(tmp_path / "rec.onnx") == ["", "'", "疗", "0", " "]


# ---- boxes


def test_a_region_becomes_its_box_grown_by_area_over_perimeter() -> None:
    probabilities = np.zeros((60, 120), np.float32)
    probabilities[20:30, 30:90] = 0.9
    # dilation adds a row and a column at the far ends, so that it spans 10 by 60 between the middles of its pixels
    by = 10 * 60 * 1.6 / (2 * (10 + 60))
    np.testing.assert_allclose(boxes_of(probabilities), [[30 - by, 20 - by, 90 + by, 30 + by]])


def test_regions_that_are_faint_or_tiny_are_no_text() -> None:
    probabilities = np.zeros((60, 120), np.float32)
    probabilities[5:15, 5:50] = 0.4  # above the threshold of a pixel, below that of a region
    probabilities[40:42, 5:50] = 0.9  # two rows
    assert boxes_of(probabilities).shape == (0, 4)


def test_a_speck_at_the_corner_of_a_region_belongs_to_it() -> None:
    probabilities = np.zeros((60, 120), np.float32)
    probabilities[10:30, 30:90] = probabilities[31:33, 27:29] = 1
    by = 23 * 63 * 1.6 / (2 * (23 + 63))
    np.testing.assert_allclose(boxes_of(probabilities), [[27 - by, 10 - by, 90 + by, 33 + by]])


def test_a_box_that_was_shrunk_as_for_training_is_found_again() -> None:
    width, height = 200, 40
    by = round(width * height * (1 - 0.4**2) / (2 * (width + height)))  # DB shrinks by this much
    true, shrunk = np.array([[50.0, 30.0, 250.0, 70.0]]), np.array([[50.0 + by, 30.0 + by, 250.0 - by, 70.0 - by]])
    probabilities = np.zeros((100, 300), np.float32)
    probabilities[30 + by : 70 - by, 50 + by : 250 - by] = 1
    assert f1(shrunk, true) == 0.0
    assert f1(boxes_of(probabilities), true) == 1.0


def test_overlap_is_intersection_over_union() -> None:
    first = np.array([[0.0, 0.0, 2.0, 2.0], [10.0, 10.0, 12.0, 12.0]])
    second = np.array([[1.0, 0.0, 3.0, 2.0]])
    np.testing.assert_allclose(overlaps(first, second), [[2 / 6], [0.0]])


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        ([[0, 0, 10, 10]], [[0, 0, 10, 10]], 1.0),
        ([[0, 0, 10, 5]], [[0, 0, 10, 10]], 1.0),  # a half is enough
        ([[0, 0, 10, 4]], [[0, 0, 10, 10]], 0.0),
        ([[0, 0, 10, 9], [0, 0, 10, 10]], [[0, 0, 10, 10]], 2 / 3),  # a true box is found once
        ([[0, 0, 10, 10]], [[0, 0, 10, 10], [20, 0, 30, 10]], 2 / 3),
    ],
)
def test_f1_counts_pairs(found: list[list[int]], true: list[list[int]], expected: float) -> None:
    assert f1(np.array(found, np.float64), np.array(true, np.float64)) == pytest.approx(expected)


def test_f1_of_nothing() -> None:
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert [f1(NO_BOXES, box), f1(box, NO_BOXES), f1(NO_BOXES, NO_BOXES)] == [0.0, 0.0, 1.0]


# ---- pictures as inputs


@pytest.mark.parametrize("kernel", ["linear", "lanczos4"])
def test_an_image_of_the_same_size_stays_as_it_is(kernel: Kernel) -> None:
    image = random_image(9, 7)
    np.testing.assert_array_equal(resize(image, 9, 7, kernel), image)


def test_linear_values_lie_between_the_middles_of_pixels() -> None:
    row = np.array([0, 100], np.uint8).reshape(1, 2, 1).repeat(3, axis=2)
    assert resize(row, 1, 4)[0, :, 0].tolist() == [0, 25, 75, 100]


def test_shrinking_by_three_takes_the_pixel_in_the_middle() -> None:
    image = random_image(9, 27)
    np.testing.assert_array_equal(resize(image, 3, 9), image[1::3, 1::3])


@pytest.mark.parametrize(
    ("width", "least", "most", "expected"),
    [(60, 320, None, 320), (600, 320, None, 1200), (60, 192, 192, 192), (600, 192, 192, 192)],
)
def test_lines_are_48_high(width: int, least: int, most: int | None, expected: int) -> None:
    assert line_input(random_image(24, width), least, most).shape == (1, 3, 48, expected)


def test_a_short_line_has_zeros_to_its_right() -> None:
    planes = line_input(np.zeros((24, 60, 3), np.uint8), least=192, most=192)
    assert (planes[..., :120] == -1).all()
    assert (planes[..., 120:] == 0).all()


def test_blue_comes_first() -> None:
    image = np.zeros((48, 48, 3), np.uint8)
    image[..., 2] = 255
    assert line_input(image, 48, 48)[0, :, 0, 0].tolist() == [1, -1, -1]


def test_pages_are_made_large_enough_for_the_detector() -> None:
    assert page_input(random_image(400, 500)).shape == (1, 3, 736, 928)
    assert page_input(random_image(750, 1000)).shape == (1, 3, 736, 992)


def test_the_middle_of_a_page_is_224_by_224() -> None:
    assert middle_input(random_image(400, 300)).shape == (1, 3, 224, 224)
