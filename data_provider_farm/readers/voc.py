"""Reader of Pascal VOC annotations: one XML file per image.

VOC counts pixels from 1 and includes the last one, so `xmin 1, xmax 10` covers ten pixels from the border on. Tools
that write VOC files with coordinates from 0 exist too: `first_pixel=0` takes the numbers as they are. An object marked
`difficult` is ignored.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from data_provider_farm.readers.annotations import MAX_COORDINATE, Listing, RawBox, SourceImage, build_source
from data_provider_farm.readers.plain_xml import PlainXml, parse_xml
from lffd.errors import DataError
from lffd.untrusted import parse_number

MAX_FILE_BYTES = 16 << 20


def read_voc(images: Path, annotations: Path, class_name: str | None, first_pixel: int = 1) -> Listing:
    """Return the image of every XML file of a folder and its subfolders, sorted by path, or of a single XML file."""
    files = sorted(annotations.rglob("*.xml")) if annotations.is_dir() else [annotations]
    if not files:
        raise DataError(f"{annotations}: holds no .xml file")
    return Listing(len(files), (_read_image(images, file, class_name, first_pixel) for file in files))


def _read_image(images: Path, file: Path, class_name: str | None, first_pixel: int) -> SourceImage:
    """Return the image of one file."""
    root: ElementTree.Element = parse_xml(file, _Tree(), MAX_FILE_BYTES)
    name = _text(root, "filename", file)
    boxes = [
        _read_object(node, f"{file}: object {number}", first_pixel)
        for number, node in enumerate(root.findall("object"), start=1)
        if class_name is None or _text(node, "name", file) == class_name
    ]
    return build_source(images / name, name, str(file), boxes, size=_read_size(root, file), folder=images)


class _Tree(PlainXml, ElementTree.TreeBuilder):
    """Builds the tree of a file whose form is bounded."""


def _text(node: ElementTree.Element, tag: str, file: Path) -> str:
    """Return the text of a child that must be there."""
    text = node.findtext(tag)
    if text is None or not text.strip():
        raise DataError(f"{file}: <{node.tag}> has no <{tag}>")
    return text.strip()


def _read_size(root: ElementTree.Element, file: Path) -> tuple[int, int] | None:
    """Return the image size that the file claims; tools that do not know it write 0."""
    node = root.find("size")
    if node is None:
        return None
    width, height = (parse_number(_text(node, tag, file), str(file), f"<{tag}>") for tag in ("width", "height"))
    if not max(width, height) <= MAX_COORDINATE:
        raise DataError(f"{file}: no image has the size {width:g}x{height:g}")
    return (int(width), int(height)) if width > 0 and height > 0 else None


def _read_object(node: ElementTree.Element, where: str, first_pixel: int) -> RawBox:
    """Return the box of one `<object>`."""
    box = node.find("bndbox")
    if box is None:
        raise DataError(f"{where}: has no <bndbox>")
    tags = ("xmin", "ymin", "xmax", "ymax")
    x0, y0, x1, y1 = (parse_number(box.findtext(tag, ""), where, f"<{tag}>") for tag in tags)
    # Counting from 1 with the last pixel included, the box starts one pixel earlier and ends where it says.
    corners = (x0 - first_pixel, y0 - first_pixel, x1, y1)
    return RawBox(corners, where, node.findtext("difficult", "0").strip() == "1")
