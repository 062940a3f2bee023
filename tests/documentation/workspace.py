"""A folder in which the commands of the documentation find what they name: pictures, packs, WIDER FACE, FDDB, …

All faces in it are drawn, but for the pictures of `docs/examples`.
"""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np

from data_provider_farm.drawn_faces.pictures import draw_scene
from lffd.images.encoded import encode
from tests.accuracy_evaluation.made_up import write_truth
from tests.conftest import PROJECT

EVENT = "0--Parade"
SCRIPTS = ("accuracy_evaluation", "config_farm", "deployment", "inference_speed_evaluation", "tools")


def make_workspace(root: Path) -> Path:
    """Make and fill a folder and return it; links to results point to where the commands before will have put them."""
    root.mkdir()
    for folder in SCRIPTS:
        (root / folder).symlink_to(PROJECT / folder)
    photo = cv2.imread(str(PROJECT / "docs/examples/group.jpg"))
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    (root / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.png"):
        cv2.imwrite(str(root / name), small)
    _make_video(root / "clip.mp4", small)
    _make_labelled(root, small)
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, 192)[:2] for _ in range(24)]
    pictures = {f"picture_{number}": scene for number, scene in enumerate(scenes) if len(scene[1])}
    _make_widerface(root, pictures)
    _make_fddb(root, pictures)
    entries = {
        number: [np.frombuffer(encode(picture, 90), np.uint8), 1, _sides(boxes).tolist()]
        for number, (picture, boxes) in enumerate(pictures.values())
    }
    (root / "widerface_train_data_gt_8.pkl").write_bytes(pickle.dumps(entries))
    shutil.copy(PROJECT / "models/face_v2/model.params", root / "train_10_320_20L_5scales_v2_iter_1000000.params")
    (root / "RESULT_DIR").symlink_to("runs/wider")
    (root / "RESULT_FILE").symlink_to("runs/fddb/results.txt")
    (root / "theirs.params").symlink_to("runs/mine/model/model.params")
    return root


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Return boxes as x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _make_video(path: Path, picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, (width, height))
    for _ in range(2):
        writer.write(picture)
    writer.release()


def _make_labelled(root: Path, picture: np.ndarray) -> None:
    """Write a YOLO dataset, and the file of a label tool about the photos."""
    for file, data in {
        "faces/data.yaml": b"val: images\nnames: [face]\n",
        "faces/images/one.jpg": encode(picture, 90),
        "faces/labels/one.txt": b"0 0.5 0.5 0.25 0.25\n",
        "annotations.xml": b"<annotations><image name='one.jpg' width='%d' height='%d'>"
        b"<box label='face' xtl='9' ytl='9' xbr='40' ybr='50'/></image></annotations>" % picture.shape[1::-1],
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(data)


def _make_widerface(root: Path, pictures: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write the drawn pictures as the training set and, other pixels, as the validation set."""
    truth: dict[str, tuple[list[list[float]], list[list[int]]]] = {}
    text = ""
    for number, (name, (picture, boxes)) in enumerate(pictures.items()):
        for folder, pixels in (("WIDER_train", picture), ("WIDER_val", picture[:, ::-1])):
            path = root / folder / "images" / EVENT / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
        rows = _sides(boxes).round().astype(int)
        text += f"{EVENT}/{name}.jpg\n{len(rows)}\n"
        text += "".join(f"{x} {y} {w} {h} 0 0 0 0 0 0 \n" for x, y, w, h in rows)
        rows[:, 0] = picture.shape[1] - rows[:, 0] - rows[:, 2]
        if number < 4:
            every = list(range(1, len(rows) + 1))
            truth[name] = (rows.astype(float).tolist(), [every, every, every])
    write_truth(root / "wider_face_split", {EVENT: truth})
    for path in (root / "wider_face_split/wider_face_train_bbx_gt.txt", root / "wider_face_train_bbx_gt.txt"):
        path.write_text(text)


def _make_fddb(root: Path, pictures: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write the drawn pictures as one fold of FDDB, an upright ellipse in every box."""
    text = ""
    (root / "FDDB-folds").mkdir()
    for number, (picture, boxes) in enumerate(list(pictures.values())[:4]):
        name = f"2002/08/11/big/img_{number}"
        path = root / f"originalPics/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)
        text += f"{name}\n{len(boxes)}\n"
        for x, y, w, h in _sides(boxes):
            text += f"{h / 2:.3f} {w / 2:.3f} {np.pi / 2:.6f} {x + w / 2:.3f} {y + h / 2:.3f}  1\n"
    (root / "FDDB-folds/FDDB-fold-01-ellipseList.txt").write_text(text)
