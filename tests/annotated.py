"""Small annotated data sets in every format, made by hand, not by our writers; and pictures that are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 20


def picture(path: Path, number: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A PNG whose pixel (y, x) is (number, y, x), so that a crop says where it was cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    Image.fromarray(np.dstack([np.full_like(x, number), y, x])).save(path)
    return path


def voc(root: Path) -> Path:
    """Two images with boxes of two classes, one of them with a grade; a list for the split."""
    picture(root / "JPEGImages" / "a.png", 1)
    picture(root / "JPEGImages" / "b.png", 2)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    boxes = {"a": [("cell", (4, 2, 14, 12)), ("猫 & <cat>", (20, 0, 40, 10))], "b": [("cell", (0, 0, 10, 20))]}
    for name, found in boxes.items():
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(f"{name}.png", found), encoding="utf-8")
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (root / "ImageSets" / "Main" / "test.txt").write_text("b\n")
    return root


def voc_xml(name: str, boxes: list[tuple[str, tuple[Any, ...]]], *, size: bool = True) -> str:
    """One VOC file; corners are (xmin, ymin, xmax, ymax)."""
    sized = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>" if size else ""
    objects = "".join(
        f"<object><name>{label.replace('&', '&amp;').replace('<', '&lt;')}</name><difficult>{place}</difficult><bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox><attributes><attribute><name>grade</name>"
        + f"<value>{place + 1}</value></attribute></attributes></object>"
        for place, (label, box) in enumerate(boxes)
    )
    return f"<annotation><filename>{name}</filename>{sized}{objects}</annotation>"


def cvat(root: Path) -> Path:
    """One image with a box and a polygon, one with a tag."""
    picture(root / "images" / "a.png", 1)
    picture(root / "images" / "b.png", 2)
    (root / "annotations.xml").write_text(
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>scratch</name></label><label><name>dent</name></label><label><name>unused</name></label></labels></task></meta>
<image id="0" name="a.png" subset="Train" width="{WIDTH}" height="{HEIGHT}">
<box label="scratch" occluded="1" source="manual" xtl="4.0" ytl="2.0" xbr="14.0" ybr="12.0" z_order="0">
<attribute name="grade">3</attribute></box>
<polygon label="dent" occluded="0" points="20.0,0.0;40.0,0.0;40.0,10.0"><attribute name="grade">1</attribute></polygon>
<polyline label="dent" points="1,1;2,2"/></image>
<image id="1" name="b.png" width="{WIDTH}" height="{HEIGHT}"><tag label="dent" source="manual"/></image>
</annotations>""",
        encoding="utf-8",
    )
    return root / "annotations.xml"


def coco(root: Path) -> Path:
    """Boxes, a polygon, a mask in run-length encoding, and a class of a whole image."""
    picture(root / "train2017" / "a.png", 1)
    picture(root / "train2017" / "b.png", 2)
    size = {"width": WIDTH, "height": HEIGHT}
    notes = [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [4, 2, 10, 10], "iscrowd": 0, "attributes": {"grade": 2}},
        {"id": 2, "image_id": 7, "category_id": 1, "segmentation": [[20, 0, 40, 0, 40, 10]], "iscrowd": 0},
        {
            "id": 3,
            "image_id": 7,
            "category_id": 1,
            "bbox": [0, 10, 5, 5],
            "iscrowd": 1,
            "segmentation": {"counts": [1], "size": [1, 1]},
        },
        {"id": 4, "image_id": 8, "category_id": 1},
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png", **size}, {"id": 8, "file_name": "b.png", **size}],
        "annotations": notes,
        "categories": [
            {"id": 3, "name": "cat", "supercategory": "animal"},
            {"id": 1, "name": "bus", "supercategory": "vehicle"},
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return root / "annotations" / "instances_train2017.json"


def yolo(root: Path) -> Path:
    """Two split folders, boxes in one and polygons in the other."""
    picture(root / "images" / "train" / "a.png", 1)
    picture(root / "images" / "val" / "b.png", 2)
    for split in ("train", "val"):
        (root / "labels" / split).mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text("0 0.225 0.35 0.25 0.5\n1 0.75 0.25 0.5 0.5\n")
    (root / "labels" / "val" / "b.txt").write_text("1 0.5 0 1 0 1 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: nut\n  1: bolt\n")
    return root


def labelstudio(root: Path) -> Path:
    """An image with a rectangle that has a grade and a polygon; an image with choices of three annotators."""
    picture(root / "a.png", 1)
    picture(root / "b.png", 2)
    size = {"original_width": WIDTH, "original_height": HEIGHT, "to_name": "image"}
    box = {"x": 10, "y": 10, "width": 25, "height": 50, "rotation": 0}
    drawn = [
        {
            **size,
            "id": "r1",
            "from_name": "box",
            "type": "rectanglelabels",
            "value": {**box, "rectanglelabels": ["scratch"]},
        },
        {**size, "id": "r1", "from_name": "grade", "type": "rating", "value": {**box, "rating": 4}},
        {
            **size,
            "id": "r2",
            "from_name": "poly",
            "type": "polygonlabels",
            "value": {"points": [[50, 0], [100, 0], [100, 50]], "polygonlabels": ["dent"]},
        },
    ]

    def chosen(by: str, label: str) -> dict[str, Any]:
        result = {"id": by, "from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
        return {"completed_by": {"email": by}, "updated_at": "2025-01-02T00:00:00Z", "result": [result]}

    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/local-files/?d=a.png"},
            "annotations": [{"completed_by": 5, "updated_at": "2025-01-01T00:00:00Z", "result": drawn}],
        },
        {
            "id": 2,
            "data": {"image": "/data/upload/1/0123abcd-b.png"},
            "annotations": [chosen("ann", "dent"), chosen("bo", "scratch"), chosen("cy", "dent")],
        },
    ]
    (root / "export.json").write_text(json.dumps(tasks))
    return root / "export.json"


def imagefolder(root: Path) -> Path:
    """Two splits with metadata of both kinds."""
    picture(root / "train" / "a.png", 1)
    picture(root / "test" / "b.png", 2)
    (root / "train" / "metadata.csv").write_text("file_name,label,grade\na.png,cat,3\n")
    (root / "test" / "metadata.jsonl").write_text('{"file_name": "b.png", "label": "dog", "grade": 1}\n')
    return root
