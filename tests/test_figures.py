"""Figures for papers and the words of pages: labels with their points, the same bytes, numbers as shown."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic

from ftbench.report import aggregate, figures, plot, render, site, words


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return synthetic.board(tmp_path_factory.mktemp("board") / "results", n_queries=40, n_items=110)


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    return render(results, tmp_path_factory.mktemp("site") / "site")


def test_labels_of_a_figure_meet_no_point_and_no_label():
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 9, 14):
        points = [plot.Point(f"some method {i}", 10 + 50 * x, 0.1 + 0.8 * y, 0.1 + 0.78 * y, 0.1 + 0.82 * y, i < 2)
                  for i, (x, y) in enumerate(rng.random((count, 2)))]  # fmt: skip
        made = plot.plot("a", points, ceilings=[("oracle (reads all)", 0.97), ("oracle (reads texts)", 0.96)])
        boxes = []
        for mark in made.marks:
            assert plot.LEFT <= mark.x <= plot.WIDTH and 0 <= mark.y <= plot.HEIGHT - plot.BOTTOM
            if not mark.lines:
                continue
            left, top, right, bottom = box = mark.box
            boxes.append(box)
            assert right - left >= 5.7 * max(map(len, mark.lines)) and bottom - top >= 12 * len(mark.lines)
            assert not [m for m in made.marks if left < m.x < right and top < m.y < bottom]
            assert not [m for m in made.marks if left < m.x < right and top < m.low and m.high < bottom]  # its whisker
            if mark.leader is None:
                assert min(abs(left - mark.x), abs(right - mark.x)) < 10 and top - 3 < mark.y < bottom + 3
            else:
                assert mark.leader[0] == mark.x and mark.high - 2 <= mark.leader[1] <= mark.low + 2
                assert left <= mark.leader[2] <= right or min(abs(mark.leader[2] - x) for x in (left, right)) <= 2
        assert len(boxes) == count
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def test_leaders_of_a_crowd_cross_no_whisker_and_the_front_is_named():
    """Five methods as close together as on a small catalogue: cost, score, interval."""
    known = [(1.08, 0.43, 0.36, 0.5), (1.18, 0.44, 0.38, 0.51), (1.52, 0.4, 0.34, 0.475), (1.79, 0.48, 0.41, 0.555),
             (1.94, 0.44, 0.37, 0.515), (0.07, 0.06, 0.04, 0.08)]  # fmt: skip
    points = [plot.Point(f"a method of name {'abcdef'[i]}", *about, i < 2) for i, about in enumerate(known)]
    made = plot.plot("a", points)
    assert all(mark.lines for mark in made.marks)
    for mark in made.marks:
        if mark.leader is None:
            continue
        x, y, to_x, to_y = mark.leader
        for other in made.marks:
            if other is not mark and min(x, to_x) < other.x < max(x, to_x):
                height = y + (to_y - y) * (other.x - x) / (to_x - x)
                assert not other.high < height < other.low, (mark.point.label, other.point.label)


def test_the_pareto_front_is_what_nothing_beats():
    points = [plot.Point(str(i), x, y, None, None, False)
              for i, (x, y) in enumerate([(1, 0.2), (2, 0.1), (3, 0.5), (3, 0.4), (4, 0.5), (5, 0.9)])]  # fmt: skip
    made = plot.plot("a", points)
    assert [mark.point.label for mark in plot.corners(made.marks)] == ["0", "2", "5"]
    assert not made.logarithmic
    assert plot.plot("a", [*points, plot.Point("far", 500, 0.3, None, None, False)]).logarithmic


def test_figures_for_papers_are_the_same_bytes_and_kept_while_their_data_are(results, page, tmp_path):
    made = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert len(made) == 16 and all(name.endswith((".svg", ".png")) for name in made)
    assert made[0] == "cross_view-magento-luma-equal-compute-forward-equivalents.png"
    svg = page.parent / "figures" / made[1]
    text = svg.read_text()
    assert "<dc:date>" not in text and "http-equiv" not in text
    board = site.gather(results, lambda *_: None)
    (figure, *_) = figures.of_table(board.tables[2])
    assert figures.draw(figure) == figures.draw(figure) and figure.key in figures.draw(figure)["svg"].decode()
    kept = tmp_path / "figures" / f"{figure.stem}.png"
    kept.parent.mkdir()
    kept.write_bytes(b"drawn elsewhere " + figure.key.encode())
    pages = {made.path: made.content for made in figures.pages(replace(board, site=tmp_path), ())}
    assert pages[f"figures/{kept.name}"] == kept.read_bytes()  # not drawn again
    kept.write_bytes(b"of other data")
    pages = {made.path: made.content for made in figures.pages(replace(board, site=tmp_path), ())}
    assert pages[f"figures/{kept.name}"].startswith(b"\x89PNG")


def test_rows_from_different_hardware_never_share_a_figure(tmp_path):
    folder = tmp_path / "results"
    size = {"n_queries": 20, "n_items": 30}
    here = ("mean_pooling", "single_view_clip", "factorized_transport")
    for method in here:
        synthetic.add(folder, method=method, hardware="a" * 12, **size)
    for method in ("mean_pooling_all_views", "factorized_transport_cached"):
        synthetic.add(folder, method=method, hardware="b" * 12, **size)
    synthetic.add(folder, method="bm25", hardware="c" * 12, **size)  # alone on its machine: no figure
    for seed, tag in enumerate("ab"):
        synthetic.add(folder, method="random", hardware=tag * 12, seed=seed, **size)  # on several: in none
    (table,) = aggregate.tables(aggregate.load(folder))
    machines = {words.spaced(row.method): row.hardware for row in table.rows}
    made = figures.of_table(table)
    assert {len(figure.points) for figure in made} == {2, 3} and len({figure.stem for figure in made}) == len(made)
    for figure in made:
        (tag,) = {machines[point.label] for point in figure.points}  # one machine each
        assert figure.machine.endswith(f"({tag[0][:4]})") and "Xeon" in figure.machine
        assert f"on {tag[0][:4]}" in figure.axis
    page = render(folder, tmp_path / "site")
    assert all((page.parent / "figures" / f"{figure.stem}.svg").is_file() for figure in made)
    assert '<th scope="col">hardware</th>' in page.read_text() and "<td>bbbb </td>" in page.read_text()


def test_every_ceiling_has_its_line_and_none_is_ranked(tmp_path):
    folder = tmp_path / "results"
    size = {"n_queries": 20, "n_items": 30}
    for method in ("mean_pooling", "single_view_clip"):
        synthetic.add(folder, method=method, **size)
    for reads in ("all", "images", "texts", "primary"):
        synthetic.add(folder, method="oracle", config={"reads": reads}, **size)
    (table,) = aggregate.tables(aggregate.load(folder))
    assert len(table.references) == len(table.ceilings) == 4 and {row.group for row in table.references} == {""}
    assert {row.method for row in table.rows} == {"mean_pooling", "single_view_clip"}
    names = {f"oracle (reads {reads})" for reads in ("all", "images", "texts", "primary")}
    for figure in figures.of_table(table):
        assert {name for name, _ in figure.ceilings} == names
        drawn = plot.plot(figure.axis, figure.points, figure.ceilings)
        lines = {text.rpartition(" ")[0] for _, text, *_ in drawn.ceilings}
        assert lines | (names if drawn.above else set()) == names
        assert not {point.label for point in figure.points} & names
    html = render(folder, tmp_path / "site").read_text()
    assert all(f"reads={reads}" in html for reads in ("all", "images", "texts", "primary"))
    assert "--c2:" in html and "--c4:" in html


def test_a_ceiling_alone_is_called_so_and_words_of_lines_keep_apart():
    points = [plot.Point("a", 1, 0.5, None, None, False), plot.Point("b", 2, 0.6, None, None, True)]
    made = plot.plot("a", points, [("ceiling", 0.98)])
    assert made.ceilings == () and made.above == "ceiling 0.980"
    made = plot.plot("a", points, [("oracle (reads all)", 0.7), ("oracle (reads images)", 0.69)])
    (_, text, _, first), (_, _, _, second) = made.ceilings
    assert text == "oracle (reads all) 0.700" and {first, second} == {"start", "end"} and not made.above


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "—"), (0, "0"), (0.1349, "0.13"), (38.44, "38.4"), (160, "160"), (1240, "1,240"), (52_100, "52.1k"),
     (1.2e6, "1.20M"), (7e5, "700k"), (3.5e9, "3.50G"), (9.999, "10.0"), (999.6, "1000"),
     (0.00955, "0.0095")],
)  # fmt: skip
def test_numbers_as_shown(value, shown):
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "—"), (0, "0"), (6.0, "6.00"), (0.019, "0.0190"), (0.0213, "0.0213"), (15.046, "15.0"), (71.2, "71.2"),
     (99.96, "100"), (9.996, "10.0"), (0.9996, "1.00"), (384.0, "384"), (999.6, "1,000"), (1234.5, "1,234"),
     (349900.0, "350k")],
)  # fmt: skip
def test_costs_have_three_significant_digits(value, shown):
    assert words.amount(value) == shown


def test_words():
    assert (words.score(0.43951), words.score(None)) == ("0.440", "—")
    assert (words.size(512), words.size(2.04e9), words.size(None)) == ("512 B", "2.04 GB", "—")
    assert (words.measure("ndcg@10"), words.measure("recall@100")) == ("nDCG@10", "recall@100")
    assert (words.p_value(1e-5), words.p_value(0.0412)) == ("< 0.001", "0.041")
    assert words.spaced("needs_aux_image") == "needs auxiliary image"
