"""`partita report`: pages that stand alone, hold what they should, and open in a browser without a complaint."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from logs import logged
from networks import barely, random_graph, random_property

from partita.bab.commands import main as cli
from partita.bab.logs.read import read_log
from partita.bab.pages.cells import number
from partita.bab.pages.log_pictures import places
from partita.bab.pages.page import page, picture, table
from partita.bab.pages.report import report
from partita.problems.errors import BadInput

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = ("meta", "link", "br", "img", "hr", "input")


class Page(HTMLParser):
    """The page's tags, balanced, with the text of its cells and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        self.ids += [named["id"]] if "id" in named else []
        self.references += [v for k, v in attributes if k in ("src", "href", "xlink:href", "data", "action", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def stands_alone(text: str) -> Page:
    """Nothing is fetched, no id is used twice, no name of a picture's part points at another's."""
    read = Page(text)
    assert "script" not in read.tags and "img" not in read.tags and "iframe" not in read.tags
    assert all(r.startswith(("#", "data:")) for r in read.references), set(read.references)
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(read.ids) == len(set(read.ids))
    for name in [r[1:] for r in read.references if r.startswith("#")] + re.findall(r"url\(#([^)]+)\)", text):
        assert name in read.ids
    return read


# ---- the page


def test_tables_and_numbers():
    text = table(("name", "n"), [("<a>", 12345), ("b", 0.00012345), ("c", None), ("d", True)], "title & more")
    assert "&lt;a&gt;" in text and "12,345" in text and "title &amp; more" in text and "yes" in text
    assert re.search(r"<th class=n>n</th>", text) and "<th>name</th>" in text
    assert [number(x) for x in (0.0, 1.5, 12345.678, 1e9, 1e-7, float("inf"))] == [
        "0",
        "1.5",
        "12,346",
        "1.00e+09",
        "1.00e-07",
        "inf",
    ]


def test_pictures_keep_their_ids_apart():
    inside = '<metadata>x</metadata><g id="a"/><use href="#a"/><g clip-path="url(#a)"/>'
    svg = f'<?xml version="1.0"?><!DOCTYPE svg><svg>{inside}</svg>'
    text = page("t", "l", picture(svg, 0), picture(svg, 1))
    assert stands_alone(text).ids == ["f0-a", "f1-a"]
    assert "metadata" not in text and text.count("DOCTYPE") == 1


# ---- a log


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log") / "log"
    graph, prop = barely(1, sets=2)
    logged(folder, graph, prop, split="polyhedral")
    return folder


def test_a_log_as_a_page(log):
    text, tree = report(log), read_log(log)
    read = stands_alone(text)
    assert read.tags.count("svg") == 5 and read.tags.count("table") >= 4
    for words in (
        f"{tree.count:,}",
        "the property holds",
        "crown",
        "half-space",
        tree.header["goals"][1]["text"].split(":")[0],
    ):
        assert words in text
    for name in tree.by_name():  # in the bars, in the histogram, over the icicle
        assert len(re.findall(rf">{name}</text>", text)) == 3
    assert text == report(log)


def test_a_killed_runs_log_as_a_page(log, tmp_path):
    shutil.copytree(log, tmp_path / "log")
    (tmp_path / "log" / "footer.json").unlink()
    part = tmp_path / "log" / "pieces-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    text = report(tmp_path / "log")
    stands_alone(text)
    assert "killed" in text and "was left out" in text


def test_a_verdict_without_a_search_as_a_page(tmp_path):
    graph, prop = barely(1)
    logged(tmp_path / "log", graph, prop, relaxation="exact")
    text = report(tmp_path / "log")
    assert stands_alone(text).tags.count("svg") == 0 and "No piece was bounded" in text


def test_the_icicles_pieces_stand_above_their_parts(log):
    tree = read_log(log)
    left, width = places(tree)
    assert width[: tree.roots].sum() == pytest.approx(1) and left[0] == 0
    for piece in (tree.child >= 0).nonzero()[0]:
        low = tree.child[piece]
        assert left[low] == left[piece] and left[low + 1] == pytest.approx(left[low] + width[low])
        assert width[low] + width[low + 1] == pytest.approx(width[piece])


# ---- what other commands leave


ROWS = """number,network,property,expected,verdict,seconds,pieces,reason
1,onnx/a.onnx,vnnlib/p<1>.vnnlib,unsat,unsat,1.25,100,
2,onnx/a.onnx,vnnlib/p2.vnnlib,unsat,sat,2.5,0,
3,onnx/b.onnx,vnnlib/p3.vnnlib,,timeout,30.0,12345,the time limit passed
4,onnx/b.onnx,vnnlib/p4"""


def test_a_benchmark_run_as_a_page(tmp_path):
    (tmp_path / "results.csv").write_text(ROWS)
    text = report(tmp_path)
    read = stands_alone(text)
    assert read.tags.count("svg") == 1 and read.tags.count("tr") == 4
    assert "2 of 3 solved" in text and "sat, wrong" in text and "12,345" in text and "p&lt;1&gt;" in text
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="not the table"):
        report(tmp_path)


def test_studies_as_a_page(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2], [3, 4])
    (tmp_path / "theory").mkdir()
    for name in ("second", "first"):
        figure.savefig(tmp_path / "theory" / f"{name}.svg")
        one = {"title": f"Table of {name}", "columns": ["k", "error"], "rows": [[1, 0.5], [2, None]]}
        study = {"name": name, "title": f"The {name} & its barrier", "question": "Does `P_1` lose?", "tables": [one]}
        one["command"], study["figures"], study["findings"] = (
            f"partita study {name}",
            [f"{name}.svg"],
            "Confirmed: yes.",
        )
        (tmp_path / "theory" / f"{name}.json").write_text(json.dumps(study))
    (tmp_path / "theory.md").write_text("## The first & its barrier\n\n## The second & its barrier\n")
    text = report(tmp_path)
    read = stands_alone(text)
    assert read.tags.count("svg") == read.tags.count("table") == 2 and "<code>P_1</code>" in text
    assert text.index("Table of first") < text.index("Table of second") and "partita study first" in text


def test_a_measured_partition_as_a_page(tmp_path):
    import partita
    from partita.bab.comparing.pictures import write

    graph = random_graph(5, "mlp", inputs=2, width=4, depth=2)
    prop = random_property(5, graph)
    found = partita.partition(graph, prop, ("triangle", "m-1"))
    write(found, tmp_path)
    text = report(tmp_path)
    read = stands_alone(text)
    assert read.tags.count("svg") == 3 and read.tags.count("table") >= 3
    for m in found.measurements:
        assert f">{m.proper:,}<" in text and f">{m.leaves:,}<" in text and m.relaxation in text
    assert "leaves in all" in text and "proved empty" in text and "fewest proper leaves" in text
    assert "Proposition 5.6" in text and ("kept" in text or "broken" in text)


def test_a_folder_with_nothing_to_show_is_refused(tmp_path, capsys):
    for folder, words in ((tmp_path, "nothing to report on"), (tmp_path / "missing", "does not exist")):
        assert cli.run(["report", str(folder)]) == 2
        said = capsys.readouterr()
        assert words in said.err and said.out == "" and not (folder / "report.html").exists()
    (tmp_path / "tables.json").write_text("{")
    assert cli.run(["report", str(tmp_path)]) == 2 and "not JSON" in capsys.readouterr().err


def test_the_command_writes_the_page_and_says_where(log, tmp_path, capsys):
    assert cli.run(["report", str(log), "--out", str(tmp_path / "p.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'p.html'}\n"
    assert (tmp_path / "p.html").read_text() == report(log)
    assert cli.run(["report", str(log), "--out", str(tmp_path / "no" / "p.html")]) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here")
def test_a_browser_shows_it_without_a_complaint(log, tmp_path):
    """The DOM that Chromium builds has every table and picture, its console is empty, and nothing was asked for."""
    path, text = tmp_path / "page.html", report(log)
    path.write_text(text)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--proxy-server=127.0.0.1:9", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    dom = done.stdout
    assert done.returncode == 0 and dom.count("<svg") == 5 and dom.count("<table") == text.count("<table")
    assert dom.count("<tr") == text.count("<tr") and dom.count("<path") == text.count("<path")
    assert "CONSOLE" not in done.stderr, done.stderr
