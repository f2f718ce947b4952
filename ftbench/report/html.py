"""How pages are made of templates: one environment, everything escaped. Must not know records."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ftbench.report import words

# The pages that every other links to: (file, title). A page that has nothing to show is not written, nor linked.
NAV = (
    ("index.html", "Board"),
    ("compare.html", "Compare"),
    ("gallery.html", "Gallery"),
    ("studies.html", "Studies"),
    ("data.html", "Data"),
    ("methods.html", "Methods"),
    ("cite.html", "Cite"),
)


@dataclass(frozen=True)
class Page:
    """A file of the site. path: relative to it, forward slashes; content: its bytes."""

    path: str
    content: bytes

    @property
    def root(self) -> str:
        """The way from this page to the site's folder: "" or "../"."""
        return "../" * self.path.count("/")


@cache
def environment() -> object:
    """The Jinja2 environment: `words` in every template, no undefined names, everything escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("ftbench.report", "templates"),
        autoescape=True,  # every name and text comes from records, which others may have written
        undefined=StrictUndefined,
        auto_reload=False,  # looking for changed templates takes a twelfth of a run page's time
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"score": words.score, "number": words.number, "size": words.size, "measure": words.measure}
    made.globals |= {"words": words}
    return made


def page(path: str, template: str, nav: tuple, about: Mapping, **values: object) -> Page:
    """A page from a template that extends `base.html.j2`. nav: the entries of NAV that exist; about: `Board.facts`."""
    text = environment().get_template(template).render(
        root="../" * path.count("/"), here=path, nav=nav, facts=about, **values
    )  # fmt: skip
    return Page(path, text.encode())
