"""The glossary names what there is."""

import re

from tests.docs.snippets import ROOT

TEXT = (ROOT / "docs/glossary.rst").read_text(encoding="utf-8")


def entries():
    """Headword and text of each entry."""
    return re.findall(r"^   (\S.*)\n((?:      .*\n)+)", TEXT, re.M)


def test_every_word_has_names_in_the_code():
    source = "\n".join(
        str(path) + path.read_text(encoding="utf-8")
        for path in (ROOT / "nengo_dl").rglob("*.py")
    )
    known = set(re.findall(r"\w+", source))
    for word, text in entries():
        _, found, names = text.partition("In the code:")
        names = re.findall(r"``([\w.]+)``", names)
        assert found and names, f"the entry of {word} names nothing in the code"
        missing = [name for name in names if not known.issuperset(name.split("."))]
        assert not missing, f"the entry of {word} names {missing}, which there is not"


def test_entries_are_one_or_more_sentences():
    assert len(entries()) >= 40
    for word, text in entries():
        assert re.match(r" *[A-Z].*?\.\s", text, re.S), word
