"""Answers with onnxruntime at once, and with the fastest engine once there are enough pictures to gain by it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tellapart.core.hardware import give_back
from tellapart.core.predictions import Floats, Mean
from tellapart.core.preprocess import Pixels
from tellapart.core.suggest import suggest
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.engines.names import AT_ONCE, AUTO, ENGINES, EngineName
from tellapart.errors import BundleError, UsageError

if TYPE_CHECKING:
    from tellapart.deploy.engines.choose import EngineChoice

# Seconds in the network after which engines are timed, or the remembered one is loaded. Each is about what that costs:
# so whoever stops at the worst moment has waited twice as long, and whoever goes on gains.
_BEFORE_TIMING, _BEFORE_LOADING = 4.0, 1.5
#: A smaller batch, such as the last one, says little about the speed.
_FEWEST = 4


class EngineSwitch:
    """A bundle whose engine is the best at hand.

    Args:
        bundle: the model. It is not run itself, so that the engine that is left can be freed.
        engine: "auto", or one of `names.ENGINES`, which is checked at once.
        say: called with lines for people: the choice, once.
        checked: whether this engine's distances were compared already, by another process of this machine.

    Raises:
        UsageError: there is no such engine, or this processor has no instructions for it.
        BundleError: the engine that is asked for does not give the golden answers on this machine.
        MissingExtraError: it is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: str = AUTO,
        say: Callable[[str], None] = lambda line: None,
        checked: bool = False,
    ) -> None:
        if engine not in (AUTO, *ENGINES):
            raise UsageError(f"There is no engine {engine!r}.", suggest(engine, (AUTO, *ENGINES)))
        # OpenVINO would compute in float32 without a word.
        if engine == "openvino-bf16" and not _chooser().has_bfloat16():
            raise UsageError(
                "This processor has no instructions for bfloat16.", "In float32: --engine openvino, or onnxruntime."
            )
        self.say = say
        self.choice: EngineChoice | None = None
        self.decided = engine != AUTO
        self._seconds, self._recalled = 0.0, False
        self.bundle = replace(bundle, engine=next((name for name in ENGINES if name == engine), "onnxruntime"))
        if self.decided:
            expected = None
            if not checked and engine != "onnxruntime":
                expected = _chooser().golden_distance(replace(bundle, engine="onnxruntime"))
                give_back()  # that network is gone, and so shall its memory be before the other one is loaded
            _chooser().check_engine(self.bundle, expected)

    @property
    def at_once(self) -> int:
        """Batches that it may be given at a time: one until the engine is decided, which is timed on what comes."""
        return AT_ONCE if self.decided else 1

    def predict_distance(
        self, pictures: Pixels, n_copies: int = 0, mean: Mean = "logits"
    ) -> tuple[npt.NDArray[np.float32], Floats]:
        """See `Bundle.predict_distance`; afterwards the engine may be another."""
        start = time.perf_counter()
        answered = self.bundle.predict_distance(pictures, n_copies=n_copies, mean=mean)
        self._seconds += time.perf_counter() - start
        if not self.decided and len(pictures) >= _FEWEST:
            self._consider(pictures)
        return answered

    def decide(self, pictures: Pixels) -> EngineChoice:
        """Go over to the fastest engine now: the remembered one, or the one that a timing on these pictures finds."""
        choice: EngineChoice | None = _chooser().recall(self.bundle)
        if choice is None or not self._load(choice.engine):
            choice, self.bundle = _chooser().choose(self.bundle, pictures)
        assert choice is not None
        self.choice, self.decided = choice, True
        for line in choice.lines():
            self.say(line)
        return choice

    def _load(self, engine: EngineName) -> bool:
        """Go over to a remembered engine, unless its answers are not the golden ones any more."""
        if engine != self.bundle.engine:
            other = replace(self.bundle, engine=engine)
            try:
                _chooser().check_engine(other, _chooser().golden_distance(self.bundle))
            except BundleError:
                return False
            self.bundle = other
        return True

    def _consider(self, pictures: Pixels) -> None:
        if self._seconds < _BEFORE_LOADING:
            return
        if not self._recalled:
            self._recalled = True
            if _chooser().recall(self.bundle) is not None:
                self.decide(pictures)
        elif self._seconds >= _BEFORE_TIMING:
            self.decide(pictures)


def _chooser() -> ModuleType:
    """The module that times engines, which a single answer needs not."""
    from tellapart.deploy.engines import choose

    return choose
