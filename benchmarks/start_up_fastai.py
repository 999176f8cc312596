"""fastai's `load_learner` and one answer, for `start_up`: run by the Python of an environment of its own.

PYTHON start_up_fastai.py write FOLDER_OF_PICTURES LEARNER    a MobileNetV2 with random weights, exported
PYTHON start_up_fastai.py answer PICTURE LEARNER
"""

import sys

if sys.argv[1] == "write":
    from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Learner, Resize, models

    loaders = ImageDataLoaders.from_folder(sys.argv[2], valid_pct=0.5, item_tfms=Resize(224), bs=8, num_workers=0)
    Learner(loaders, models.mobilenet_v2(num_classes=loaders.c), CrossEntropyLossFlat()).export(sys.argv[3])
else:
    from fastai.learner import load_learner

    print(load_learner(sys.argv[3]).predict(sys.argv[2]))
