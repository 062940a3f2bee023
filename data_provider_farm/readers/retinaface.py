"""Reader of WIDER FACE annotations with five points per face, in the text form of RetinaFace's `label.txt`.

RetinaFace (arXiv 1905.00641, section 4.1) labelled five points of 84,600 training faces. An image is a line `# name`,
then one line per face: `x y w h` in pixels; in the training set also x, y and a flag of each point, in the order of
`lffd.points` (flag −1 where it could not be annotated, 0 where it shows, above 0 where it is hidden), and how sharp the
face is, which is not used.
"""

from __future__ import annotations

from pathlib import Path

from data_provider_farm.readers.annotations import FivePoints, Listing, RawBox, SourceImage, build_source, xywh
from lffd.errors import DataError
from lffd.points import COUNT, HIDDEN, SEEN, UNKNOWN
from lffd.untrusted import parse_number, read_text, shown

LENGTHS = (4, 4 + 3 * COUNT, 5 + 3 * COUNT)
LAYOUT = "`x y w h`, perhaps with `x y flag` of five points and the sharpness behind it"


def read_retinaface(images: Path, annotations: Path) -> Listing:
    """Return the images that a label file lists, in its order."""
    groups: list[tuple[str, str, list[RawBox]]] = []
    for number, line in enumerate(read_text(annotations).splitlines(), start=1):
        where = f"{annotations}:{number}"
        if line.startswith("#"):
            groups.append((line[1:].strip(), where, []))
        elif line.strip():
            if not groups:
                raise DataError(f"{where}: expected the name of an image behind #, found {shown(line.strip())}")
            groups[-1][2].append(_read_face(line, where))

    def build(name: str, where: str, faces: list[RawBox]) -> SourceImage:
        return build_source(images / name, name, where, faces, folder=images)

    return Listing(len(groups), (build(*group) for group in groups))


def _read_face(line: str, where: str) -> RawBox:
    """Return the face of one line."""
    fields = line.split()
    if len(fields) not in LENGTHS:
        raise DataError(f"{where}: expected {LAYOUT}, found {shown(line.strip())}")
    x, y, width, height, *rest = (parse_number(field, where, "each field") for field in fields)
    rows = [rest[3 * place : 3 * place + 3] for place in range(COUNT)] if rest else []
    points: FivePoints = tuple((px, py, UNKNOWN if f < 0 else SEEN if f == 0 else HIDDEN) for px, py, f in rows)
    return RawBox(xywh(x, y, width, height), where, landmarks=points or None)
