"""Files of Amazon Berkeley Objects in exactly the published layout, a few listings long, for tests."""

import csv
import gzip
import hashlib
import io
import json
import tarfile

from PIL import Image

from ftbench.sources.abo import ARCHIVE, IMAGES, LISTINGS
from ftbench.sources.abo_archive import SHARDS


def said(*values, tag="en_US"):
    return [{"language_tag": tag, "value": value} for value in values]


def listing(asin, images=(), kind="CAKE", domain="amazon.com", **fields):
    row = {
        "item_id": asin,
        "domain_name": domain,
        "item_name": said(f"Name of {asin}"),
        "product_type": [{"value": kind}],
        "main_image_id": images[0] if images else None,
        "other_image_id": list(images[1:]),
    } | fields
    return {key: value for key, value in row.items() if value is not None}


def picture(number):
    """A JPEG of 8 x 8 pixels that differs from those of all other numbers."""
    out = io.BytesIO()
    Image.frombytes("RGB", (8, 8), hashlib.sha256(b"%d" % number).digest() * 6).save(out, format="JPEG")
    return out.getvalue()


def add(archive, name, data=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


def path_of(image_id):
    return f"{sum(image_id.encode()) % 256:02x}/{image_id.lower()}.jpg"


def write(folder, rows, photographs=None, garbage=()):
    """The three files. rows: listings, dealt out to the shards; photographs: image id -> bytes, all of them if None."""
    folder.mkdir(parents=True, exist_ok=True)
    if photographs is None:
        ids = {i for row in rows for i in (row.get("main_image_id"), *row.get("other_image_id", ())) if i}
        photographs = {image_id: picture(number) for number, image_id in enumerate(sorted(ids))}
    lines = [json.dumps(row).encode() for row in rows] + list(garbage)
    with tarfile.open(folder / LISTINGS, "w") as archive:
        add(archive, "listings/README.md", b"read me")
        for number, shard in enumerate(SHARDS):
            add(archive, f"listings/metadata/{shard}", gzip.compress(b"\n".join(lines[number::16]) + b"\n"))
    with gzip.open(folder / IMAGES, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image_id", "height", "width", "path"))
        writer.writerows((image_id, 1600, 2400, path_of(image_id)) for image_id in photographs)
    with tarfile.open(folder / ARCHIVE, "w") as archive:
        add(archive, "images/small", type=tarfile.DIRTYPE)
        for image_id, data in photographs.items():
            add(archive, f"images/small/{path_of(image_id)}", data)
    return folder
