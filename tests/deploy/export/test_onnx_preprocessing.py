import numpy as np
import onnx
import onnxruntime
import pytest

from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.deploy.export.onnx_preprocessing import preprocessing_model


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_the_graph_scales_as_pillow_does(fit, interpolation):
    random = np.random.default_rng(0)
    settings = Preprocessing(24, 29, fit, 0.875, interpolation, background=(9, 80, 200))
    model = preprocessing_model(settings)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for height, width in [(40, 64), (17, 9), (24, 29), (1, 5)]:
        picture = random.integers(0, 256, (height, width, 3), np.uint8)
        ((theirs,),) = session.run(None, {"picture": picture})
        difference = np.abs(theirs.astype(int) - preprocess(picture, settings))
        assert (difference > 0).mean() < 0.15
        if interpolation != "nearest":  # whose position between two pixels may fall to either
            assert difference.max() <= 2
