"""Names of files -> which of them hold rows, and of which split.

Invariant: what editors, notebooks and archives leave behind is never taken for data.
"""

from __future__ import annotations

import re
from pathlib import Path

from t2g_ray.records.files import PACKED, suffix_of
from t2g_ray.records.values import SPLITS

JSON_SUFFIXES = (".json", ".jsonl")
SPLIT_KEY = "split"
"""Key of a record that names its split; `t2g data inspect` compares them."""
SIDE_FILES = ("*ontology.json", "*types.json", "*rel_info.json")
"""Schema files that data sets keep beside their rows."""
DATASET_MARKS = ("state.json", "dataset_dict.json")
"""A folder that `datasets` wrote has one of them."""
DATASET_FILES = (*DATASET_MARKS, "dataset_info.json", "dataset_infos.json")
NO_FOLDERS = ("__macosx", "__pycache__")


def is_side_file(path: Path, *patterns: str) -> bool:
    """Whether the name is that of a schema file, in upper case and packed too."""
    name = Path(path.name.lower())
    while name.suffix in PACKED:
        name = name.with_suffix("")
    return any(name.match(pattern) for pattern in patterns or SIDE_FILES)


def split_in(path: Path) -> str | None:
    """The split that a path names, in the file's name or else in the nearest folder's.

    Example: "conll/Train.json" is of the split "train", "train_dev.json" of "train_dev".
    """
    for part in reversed(path.parts):
        words = re.findall(r"[a-z]+", part.lower())
        if named := [word for word in words if word in SPLITS]:
            return "_".join(dict.fromkeys(named))
    return None


def visible_files(folder: Path) -> list[Path]:
    """The files of a folder and of those inside it, without hidden and backup files."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(_is_hidden(part) for part in path.relative_to(folder).parts)
    )


def _is_hidden(name: str) -> bool:
    """Editors, notebooks and archives leave such names: .ipynb_checkpoints, __MACOSX, a.txt~."""
    return name.startswith((".", "~$", "#")) or name.endswith("~") or name.lower() in NO_FOLDERS


def has_rows(path: Path) -> bool:
    return suffix_of(path) in JSON_SUFFIXES and path.name not in DATASET_FILES
