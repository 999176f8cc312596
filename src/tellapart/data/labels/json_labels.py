"""Labels in a JSON file, as columns: records, files with their label, labels with their files, COCO's annotations.

| form | an example |
|---|---|
| records | `[{"file": "1.png", "label": "cat"}]`, also below one key, as `{"data": […]}` |
| a file and its label | `{"1.png": "cat"}`, `[["1.png", "cat"]]`, also below one key, as `{"labels": [["1.png", 3]]}` |
| a label and its files | `{"cat": ["1.png", "2.png"]}` |
| columns | `{"file": ["1.png"], "label": ["cat"]}`; pandas writes `{"file": {"0": "1.png"}}` |
| COCO | `{"images": […], "annotations": […], "categories": […]}`: the categories of a picture are its labels |
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tellapart.core.plain_json import parse_json
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.errors import DataError

MOST = 1 << 30  # bytes of a file: COCO's own, of 118,000 pictures, has 450 MB
_DEEPEST = 3  # keys above the labels
_FORMS = 'It can hold {"1.png": "cat"}, [{"file": "1.png", "label": "cat"}], or COCO\'s annotations.'

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """The rows of a JSON file: column → value.

    Raises:
        DataError: it is no JSON, larger than `MOST`, or has none of these forms.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MOST:
        raise DataError(f"{path.name} is larger than {MOST >> 20:,} MiB.", "Write its labels as a CSV file.")
    try:
        content = parse_json(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path.name}: this is not JSON: {error}.", _FORMS) from error
    records = _records(path.name, content)
    if not records:
        raise DataError(f"{path.name} holds no labels of pictures in a form that is known.", _FORMS)
    return records


def _records(name: str, content: Any, depth: int = 0) -> list[Record]:
    if isinstance(content, list):
        return _of_list(content)
    if not isinstance(content, dict):
        return []
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        return _of_coco(name, content)
    by_column = {key: _cells(values) for key, values in content.items()}
    if not any(map(_is_picture, content)) and _is_table(by_column):
        rows = zip(*(cells or [] for cells in by_column.values()), strict=True)
        return [dict(zip(by_column, row, strict=True)) for row in rows]
    pairs = _of_mapping(content)
    if pairs:
        return pairs
    lists = [value for value in content.values() if isinstance(value, list | dict) and value]
    return _records(name, lists[0], depth + 1) if len(lists) == 1 and depth < _DEEPEST else []


def _cells(values: Any) -> list[Any] | None:
    """The cells of a column: a list, or the rows' numbers and their cells, as pandas writes them."""
    if isinstance(values, dict) and all(map(str.isdecimal, values)):
        values = list(values.values())
    return values if isinstance(values, list) else None


def _is_table(by_column: dict[str, list[Any] | None]) -> bool:
    """Whether these are columns: of one length, one of them of pictures, and another that is not."""
    columns = [cells for cells in by_column.values() if cells]
    of_pictures = [all(map(_is_picture, cells)) for cells in columns]
    one_length = len(columns) == len(by_column) > 1 and len(set(map(len, columns))) == 1
    return one_length and any(of_pictures) and not all(of_pictures)


def _of_list(content: list[Any]) -> list[Record]:
    if all(isinstance(row, dict) for row in content):
        return content
    if all(isinstance(row, list) and len(row) == 2 and _is_picture(row[0]) for row in content):
        return [{"file": file, "label": label} for file, label in content]
    return []


def _of_mapping(content: dict[str, Any]) -> list[Record]:
    """Files with their labels, or their records; labels with their files."""
    if all(map(_is_picture, content)):
        own = {file: value if isinstance(value, dict) else {_key(value): value} for file, value in content.items()}
        return [{"file": file, **columns} for file, columns in own.items()]
    if all(isinstance(files, list) and all(map(_is_picture, files)) for files in content.values()):
        return [{"file": file, "label": label} for label, files in content.items() for file in files]
    names_classes = all(map(str.isdecimal, content))  # as {"1": "cat"} does
    if not names_classes and all(isinstance(label, str | int) for label in content.values()):  # names without suffix
        return [{"file": file, "label": label} for file, label in content.items()]
    return []


def _key(value: Any) -> str:
    return "labels" if isinstance(value, list) else "label"


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and value.lower().strip().endswith(tuple(EXTENSIONS))


# --- COCO -----------------------------------------------------------------------------------------------------------


def _of_coco(name: str, content: Record) -> list[Record]:
    """A row a picture; `label` where none has more than one category, else `labels`."""
    try:
        categories = {each["id"]: str(each["name"]) for each in content.get("categories") or []}
        labels: dict[Any, dict[str, None]] = {each["id"]: {} for each in content["images"]}
        for each in content["annotations"]:
            labels[each["image_id"]][categories[each["category_id"]]] = None
        files = {each["id"]: str(each["file_name"]) for each in content["images"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{name} has COCO's images and annotations, but not their categories: {error!s} is missing.",
            "Each annotation needs image_id and category_id, each category id and name, each image id and file_name.",
        ) from error
    return list(_rows_of_coco(files, labels))


def _rows_of_coco(files: dict[Any, str], labels: dict[Any, dict[str, None]]) -> Iterable[Record]:
    single = all(len(own) < 2 for own in labels.values())
    for key, file in files.items():
        own = list(labels[key])
        yield {"file_name": file, **({"label": own[0] if own else None} if single else {"labels": own})}
