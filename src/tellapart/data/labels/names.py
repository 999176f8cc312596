"""Names of columns that have a meaning, in the spellings of well-known data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Columns that hold the path of a picture; the first one there is wins.
PATHS = (
    *("file_name", "filename", "file", "filepath", "file_path", "path"),
    *("image", "image_path", "image_name", "image_file", "picture", "photo", "img", "img_path", "img_name"),
    *("image_id", "image_index", "img_id", "picture_id", "photo_id", "id_code", "fname", "id", "name"),
)
#: Columns that hold one label, and those that may hold several.
LABEL = (
    *("label", "class", "category", "class_name", "label_name", "category_name", "target", "primary_label"),
    *("lbl", "cls", "class_id", "label_id", "category_id", "species", "breed", "diagnosis", "dx", "ground_truth"),
)
LABELS = ("labels", "tags", "classes", "categories", "finding_labels", "targets", "label_names")
#: Columns that hold the part of each picture. A cell of the first that is no part is an error; columns of the other
#: names have other uses as well, and count where each cell is a part.
SPLIT = ("split", "subset", "part", "partition")
MAYBE_SPLIT = ("set", "phase", "stage", "usage", "mode", "data_split", "data_set", "dataset", "split_name")
#: Columns that number the folds of somebody's cross-validation; or hold parts, as the former do.
FOLD = ("fold", "folds", "kfold", "fold_id", "cv_fold")
#: Columns of yes and no, and the part of a picture with yes.
IS_PART = {
    **dict.fromkeys(("is_valid", "is_val", "is_validation", "is_dev"), "validation"),
    **dict.fromkeys(("is_test", "is_testing"), "test"),
    **dict.fromkeys(("is_train", "is_training", "is_training_image"), "train"),
}
#: Columns of what several pictures show: those of one patient or one scene belong on one side of a split.
GROUP = (
    *("group", "group_id", "patient", "patient_id", "subject", "subject_id", "person", "person_id"),
    *("participant", "participant_id", "individual", "individual_id", "animal_id", "plant_id", "case_id"),
    *("lesion", "lesion_id", "specimen", "specimen_id", "study_id", "series_id", "slide_id", "session_id"),
    *("scene", "scene_id", "sequence_id", "seq_id", "burst_id", "video", "video_id", "clip_id"),
)
#: Plain names of columns that number the rows, such as those without a name that pandas writes, once at each saving.
_INDEX = re.compile(r"|(unnamed|column)\d+|index|row|rowid")


def plain(name: str) -> str:
    """A column's name without case, blanks and signs: "Image Index", "image_index" and "imageIndex" are one."""
    return "".join(c for c in name.casefold() if c.isalnum())


def is_index(name: str) -> bool:
    """Whether a column numbers the rows, by its name."""
    return bool(_INDEX.fullmatch(plain(name)))


def has_name(columns: Iterable[str], names: Iterable[str]) -> bool:
    """Whether a column has one of these names."""
    return not {plain(name) for name in names}.isdisjoint(map(plain, columns))
