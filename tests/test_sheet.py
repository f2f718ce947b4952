"""The contact sheet: every picture and every word lands on it, whatever the items."""

import numpy as np
import pytest
from PIL import Image

from ftbench.errors import FtbenchError
from ftbench.items import Item, View
from ftbench.sources.sheet import _fitted, _wrapped, contact_sheet

SOLID = np.full((48, 48, 3), (10, 200, 30), dtype=np.uint8)


def item(*views, **attributes):
    return Item("a1", "a1", "test", "mug", views, attributes)


def image(content=SOLID, name="main", role="primary", probe=True):
    return View("image", name, role, content, probe)


def text(content, name="title"):
    return View("text", name, "primary", content)


def pixels(sheet):
    return np.asarray(sheet)


def green(sheet):
    return int((pixels(sheet) == SOLID[0, 0]).all(axis=2).sum())


def test_every_picture_is_on_it_at_the_asked_scale():
    views = [image(), *(image(name=f"v{i}", role="auxiliary") for i in range(6))]
    for scale in (1, 2, 3):
        assert green(contact_sheet([item(*views)], scale=scale)) == 7 * (48 * scale) ** 2


def test_columns_fold_an_item_without_losing_a_picture():
    views = [image(name=f"v{i}", role="auxiliary") for i in range(7)]
    wide, folded = contact_sheet([item(*views)]), contact_sheet([item(*views)], columns=3)
    assert green(wide) == green(folded) == 7 * 96**2
    assert folded.height > wide.height and folded.width < wide.width
    many = contact_sheet([item(*(image(name=str(i), role="auxiliary") for i in range(30)))], scale=1)
    assert green(many) == 30 * 48**2 and many.width < 12 * 60 + 60


def test_texts_and_attributes_take_room_and_leave_ink():
    def ink(sheet):
        return int((pixels(sheet).sum(axis=2) < 300).sum())

    bare = contact_sheet([item(image())])
    titled = contact_sheet([item(image(), text("a red mug"), text("for the office", "description"))])
    told = contact_sheet([item(image(), text("a red mug"), text("for the office", "description"), colour="red")])
    assert bare.height < titled.height < told.height
    assert ink(bare) < ink(titled)


def test_small_pictures_grow_in_whole_steps_and_photographs_shrink():
    checker = np.indices((48, 48)).sum(axis=0) % 2 * 255
    small = np.repeat(checker[..., None], 3, axis=2).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(_fitted(small, 100)), small.repeat(2, axis=0).repeat(2, axis=1))
    assert _fitted(np.zeros((300, 200, 3), dtype=np.uint8), 96).size == (64, 96)


def test_long_texts_are_cut_to_three_lines():
    from PIL import ImageFont

    font = ImageFont.load_default(13)
    assert _wrapped("one two", font, 400) == ["one two"]
    lines = _wrapped("word " * 200, font, 120)
    assert len(lines) == 3 and lines[-1].endswith("...")
    assert all(font.getlength(line) <= 150 for line in lines)
    sheet = contact_sheet([item(image(), text("x" * 5000))])
    assert sheet.height < 400
    assert (pixels(sheet)[:, -20:] == pixels(sheet)[0, 0]).all()  # nothing runs into the margin


def test_files_are_read_and_a_broken_one_leaves_a_hole(tmp_path):
    Image.fromarray(SOLID).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    views = [image(tmp_path / "good.png"), *(image(tmp_path / n, n, "auxiliary") for n in ("bad.png", "none.png"))]
    assert green(contact_sheet([item(*views)])) == 96**2


def test_items_without_pictures_or_words_are_no_trouble():
    sheet = contact_sheet(iter([item(), item(text("only words")), item(image())]))
    assert sheet.mode == "RGB" and green(sheet) == 96**2


def test_pictures_given_are_not_changed():
    before = SOLID.copy()
    contact_sheet([item(image())])
    np.testing.assert_array_equal(SOLID, before)


@pytest.mark.parametrize("arguments", [{"columns": 0}, {"scale": 0}, {"columns": -1}])
def test_wrong_sizes_are_refused(arguments):
    with pytest.raises(FtbenchError, match="at least 1"):
        contact_sheet([item(image())], **arguments)


def test_no_item_is_refused():
    with pytest.raises(FtbenchError, match="at least one item"):
        contact_sheet([])
