"""What only a GPU does: batches changed on it, losses asked for later, a training taken up where it was broken off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tellapart.core.events import Event, Validated
from tellapart.core.preprocess import Interpolation, Preprocessing
from tellapart.data.augmentation.gpu_batch import batch_generator, begin_batch
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe import transforms as rt
from tellapart.recipe.schema import Recipe
from tellapart.training.checkpoint import State, load_checkpoint, save_checkpoint
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tellapart.training.predict import predict
from tellapart.training.runtime import Runtime

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = Runtime("cuda", workers=2)
#: How far what a resumed training validates may be from an unbroken one's, relative: kernels add in any order.
TOLERANCE = 0.02
PLAN = Recipe.model_validate(
    {
        "data": {"size": 32},
        "model": {"name": "cnn8", "pretrained": False, "dropout": 0.0},
        "augment": [{"transform": "random_resized_crop"}, {"transform": "horizontal_flip", "probability": 0.5}],
        "stages": [{"epochs": 3, "batch_size": 8, "lr": 1e-3}],
    }
)


@pytest.fixture
def begun(picture_folder: Callable[..., Path]) -> Callable[[], tuple[Network, Dataset]]:
    catalog = scan(picture_folder(n=12))
    parts = split(catalog, validation=0.25, test=0.25)

    def made() -> tuple[Network, Dataset]:
        torch.manual_seed(0)
        network = create_network(PLAN.model, len(catalog.classes), PLAN.data)
        preprocessing = network.preprocessing
        return network, Dataset(catalog, parts.train, parts.validation, preprocessing, PLAN.augment, PLAN.seed)

    return made


def validated(events: list[Event]) -> list[float]:
    return [event.validation_loss for event in events if isinstance(event, Validated)]


@pytest.mark.parametrize("stop_after", [2, 4, 7])
def test_a_training_broken_off_ends_near_an_unbroken_one(
    begun: Callable[[], tuple[Network, Dataset]], tmp_path: Path, stop_after: int
) -> None:
    whole, dataset = begun()
    expected = validated(list(fit(whole, PLAN, dataset, State(), GPU)))
    broken, dataset = begun()
    state, seen = State(), []
    for number, event in enumerate(fit(broken, PLAN, dataset, state, GPU), start=1):
        seen.append(event)
        if number == stop_after:
            break
    save_checkpoint(tmp_path / "last.safetensors", broken, state)
    resumed, dataset = begun()
    state = load_checkpoint(tmp_path / "last.safetensors", resumed)
    seen += list(fit(resumed, PLAN, dataset, state, GPU))
    assert validated(seen) == pytest.approx(expected, rel=TOLERANCE)


def test_answers_are_a_processors(begun: Callable[[], tuple[Network, Dataset]]) -> None:
    network, dataset = begun()
    rows = dataset.validation

    def logits(runtime: Runtime) -> np.ndarray:
        events = predict(network, dataset.catalog, rows, runtime, "answers")
        try:
            while True:
                next(events)
        except StopIteration as end:
            return end.value.logits

    assert np.allclose(logits(GPU), logits(Runtime("cpu", workers=2)), atol=0.01)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "transforms",
    [
        [rt.RandomResizedCrop()],
        [rt.HorizontalFlip(probability=0.5), rt.VerticalFlip(probability=0.5), rt.Shift(), rt.Erasing()],
        [rt.Rotation(), rt.Greyscale(probability=0.3), rt.Scale(), rt.Shear(probability=0.5)],
        [rt.Brightness(), rt.Contrast(), rt.Saturation(), rt.Negative(probability=0.5)],
    ],
    ids=["crop", "flips", "moves", "colour"],
)
def test_a_gpu_changes_batches_as_a_cpu_does(transforms: list[rt.Transform], interpolation: Interpolation) -> None:
    """In half precision, which holds grey levels exactly, and weights of a crop nearly so."""
    preprocessing = Preprocessing(40, 56, interpolation=interpolation)
    size = (90, 120, 3) if isinstance(transforms[0], rt.RandomResizedCrop) else (40, 56, 3)
    pictures = np.random.default_rng(0).integers(0, 256, (24, *size), np.uint8)
    pictures[12:] = (pictures[12:] > 127) * 255  # sums of bicubic weights go beyond black and white

    def changed(device: str) -> torch.Tensor:
        rng = batch_generator(3, 1, np.arange(len(pictures)))
        block, change = begin_batch(list(pictures), transforms, preprocessing, rng)
        return change(block.to(device)).cpu()

    difference = (changed("cuda").int() - changed("cpu").int()).abs()
    assert difference.max() <= 3
    assert difference.float().mean() < 0.3
    assert torch.equal(changed("cuda"), changed("cuda"))


def test_a_transform_without_a_batched_form_goes_before_the_others_and_is_named(
    begun: Callable[[], tuple[Network, Dataset]],
) -> None:
    network, dataset = begun()
    jpeg = [rt.Jpeg(), *PLAN.augment]
    recipe = PLAN.model_copy(update={"augment": jpeg})
    events = list(fit(network, recipe, replace(dataset, transforms=jpeg), State(), GPU))
    assert "the CPU does random_resized_crop, jpeg, as the GPU has no batched form of jpeg" in events[0].description
    assert len(validated(events)) == 3
