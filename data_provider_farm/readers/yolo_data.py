"""Readers of the files that describe a YOLO dataset: `data.yaml`, and darknet's `obj.data`.

Both say where the images of a split are, as folders or as text files that list images, and what the classes are called.
The text file of an image lies beside it, or where its path has `labels` for the last `images`: `images/a.jpg` has
`labels/a.txt`. What a line of it means is said in `yolo.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from data_provider_farm.readers.annotations import Listing, SourceImage, build_source
from data_provider_farm.readers.yolo import build_yolo, class_number
from lffd.errors import DataError
from lffd.images.files import list_images
from lffd.untrusted import is_below, parse_whole, read_file, read_text, shown

Split = Literal["train", "val", "test"]

MAX_YAML_BYTES, MAX_YAML_DEPTH = 1 << 20, 10
SUFFIXES = (".yaml", ".yml", ".data")


@dataclass(frozen=True)
class _Described:
    """What a file says: the places of the split, below a folder, and the names of the classes in their order."""

    file: Path
    root: Path
    places: tuple[str, ...]
    names: tuple[str, ...]


def read_yolo_data(
    file: Path,
    images: Path | None,
    split: Split,
    class_name: str | None,
    *,
    turned: bool = False,
    outside: bool = False,
) -> Listing:
    """Return the images of one split, in the order of its places; those of a folder are sorted by path.

    Args:
        file: `data.yaml` or `obj.data`.
        images: the folder that its paths start from, in the place of `path` of `data.yaml` (by default that, or the
            file's own folder).
        split: which images.
        class_name: the only class to take, by name or number.
        turned: the fractions are of the image as its EXIF tag turns it.
        outside: also read images that the file names outside of that folder.
    """
    read = _read_darknet if file.suffix.lower() == ".data" else _read_yaml
    said = read(file, images, split, outside)
    wanted = None if class_name is None else class_number(class_name, said.names, file)
    found = list(dict.fromkeys(path for place in said.places for path in _images_of(said, place, outside)))
    labels = [_label_of(path) for path in found]
    if not any(map(os.path.exists, labels)):
        raise DataError(f"{file}: no image of {split} has a text file, such as {labels[0]}")

    def build(path: Path, label: Path) -> SourceImage:
        inside = path.is_relative_to(said.root) and is_below(path, said.root)
        if not inside and not outside:  # the packer will refuse it, so nothing of it is read
            return build_source(path, path.name, str(path), folder=said.root)
        return build_yolo(said.root if inside else path.parent, path, label, wanted, turned)

    return Listing(len(found), (build(*pair) for pair in zip(found, labels, strict=True)))


def _label_of(path: Path) -> Path:
    """Return the place of an image's text file."""
    parts = list(path.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _images_of(said: _Described, place: str, outside: bool) -> Iterator[Path]:
    """Yield the images of a folder, or of a text file that lists them."""
    where = _locate(said.root, place, os.path.exists)
    if where is None:
        raise DataError(f"{said.file}: names {shown(place)}, which is not in {said.root}; --images FOLDER says where")
    if not outside and not is_below(where, said.root):
        raise DataError(f"{said.file}: {shown(place)} leads outside {said.root}; --follow-outside allows that")
    if os.path.isdir(where):
        yield from list_images(where)
        return
    for line in filter(None, map(str.strip, read_text(where).splitlines())):
        yield _locate(said.root, line, os.path.isfile, where.parent) or said.root / line


def _locate(root: Path, place: str, there: Callable[[Path], bool], beside: Path | None = None) -> Path | None:
    """Return where a path of the file leads, if there is something.

    It may start from the dataset's folder, from that of the list which names it, or, as tools write it, from the
    folder above (`../train/images`, `data/obj_train_data/a.jpg`).
    """
    pure = PurePosixPath(place)
    choices = [root / place, *([beside / place] if beside else [])]
    if pure.parts[:1] in (("..",), ("data",), (root.name,)):
        choices.append(root / Path(*pure.parts[1:]))
    return next((choice for choice in choices if there(choice)), None)


def _read_darknet(file: Path, images: Path | None, split: Split, outside: bool) -> _Described:
    """Read `obj.data`: lines `key = value`, among them train, valid, test and names."""
    values = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if text := line.partition("#")[0].strip():
            key, equals, value = (part.strip() for part in text.partition("="))
            if not equals:
                raise DataError(f"{file}:{number}: expected `key = value`, found {shown(text)}")
            values[key] = value
    root = images or file.parent
    place = values.get("valid", values.get("val")) if split == "val" else values.get(split)
    if not place:
        raise DataError(f"{file}: has no images for {split}; it has {', '.join(values)}")
    names: tuple[str, ...] = ()
    if "names" in values:
        where = _locate(root, values["names"], os.path.isfile, file.parent) or root / values["names"]
        if not outside and not is_below(where, root):
            raise DataError(f"{file}: its names lead outside {root}; --follow-outside allows that")
        names = tuple(read_text(where).splitlines())
    return _Described(file, root, (place,), names)


def _read_yaml(file: Path, images: Path | None, split: Split, outside: bool) -> _Described:
    """Read `data.yaml`: an optional `path`, a folder, a list or several for each split, and `names`."""
    document = _load_yaml(file)
    path = document.get("path", "")
    if not isinstance(path, str):
        raise DataError(f"{file}: path must be a folder, not {shown(path)}")
    root = images or file.parent / path
    if images is None and not outside and not is_below(root, file.parent):
        raise DataError(f"{file}: its path {shown(path)} leads outside {file.parent}; if right, add --images {path}")
    if images is None and not os.path.isdir(root):
        raise DataError(f"{file}: its path {shown(path)} is no folder here; --images FOLDER takes its place")
    places = document.get(split, document.get("valid") if split == "val" else None)
    places = [places] if isinstance(places, str) else places
    if not places or not isinstance(places, list) or not all(isinstance(place, str) and place for place in places):
        raise DataError(f"{file}: {split} must be a folder, a text file, or a list of these, not {shown(places)}")
    return _Described(file, root, tuple(places), tuple(_class_names(document.get("names", []), file)))


def _class_names(names: Any, file: Path) -> Iterable[str]:
    """Return the names in the order of their numbers."""
    if isinstance(names, dict):
        where = f"{file}: names"
        numbered = {parse_whole(str(key), where, "the number of a class"): name for key, name in names.items()}
        names = [numbered.get(number, "") for number in range(min(max(numbered, default=-1) + 1, MAX_YAML_BYTES))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{file}: names must be a list of texts, or numbers with texts, not {shown(names)}")
    return names


def _load_yaml(file: Path) -> dict[str, Any]:
    """Return a YAML document of texts, lists and mappings alone; nothing is made of tags, and aliases are refused."""
    import yaml

    class Plain(yaml.BaseLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise DataError(f"{file}: has aliases (*name), which no data.yaml needs")
            self.depth += 1
            if self.depth > MAX_YAML_DEPTH:
                raise DataError(f"{file}: is nested too deeply for a data.yaml")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    try:
        document = yaml.load(read_file(file, most=MAX_YAML_BYTES), Plain)  # makes nothing but these
    except yaml.YAMLError as error:
        raise DataError(f"{file}: is not YAML: {' '.join(str(error).split())[:300]}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text (byte {error.start})") from error
    if not isinstance(document, dict):
        raise DataError(f"{file}: a data.yaml names train, val and names; this holds {shown(document)}")
    return document
