"""The form of a commit message, as the hook of ``.pre-commit-config.yaml`` checks it.

A commit is one act: its title says in the imperative what it does, and its body why. As
a program, ``python tests/commit_message.py FILE`` prints what is wrong with the message
in a file, and fails.
"""

import re
import sys
from pathlib import Path

LONGEST_TITLE, LONGEST_LINE = 72, 90

#: titles that Git makes itself
OF_GIT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")

#: verbs whose imperative ends like another form
IMPERATIVES = set(
    "bring embed exceed feed focus need proceed seed shed shred speed string wing".split()
)


def problems(message):
    """Yield what is wrong with a message, each time as one line."""
    text = message.split("\n# ------------------------ >8 ------------------------")[0]
    lines = [line.rstrip() for line in text.split("\n") if not line.startswith("#")]
    title, _, rest = "\n".join(lines).strip("\n").partition("\n")
    if title.startswith(OF_GIT):
        return
    verb = title.partition(" ")[0].lower()
    if len(title) > LONGEST_TITLE:
        yield f"the title has {len(title)} characters; at most {LONGEST_TITLE}"
    if " " not in title:
        yield f"the title {title!r} does not say what the commit does"
    if ";" in title:
        yield "the title has a semicolon: two acts are two commits"
    if title.endswith("."):
        yield "the title ends with a full stop"
    if not title[:1].isupper():
        yield "the title does not begin with a capital letter"
    if verb not in IMPERATIVES and re.search(r"(ed|ing|[^s]s)$", verb):
        yield f"the title begins with {verb!r}, which is no imperative"
    if rest and not rest.startswith("\n"):
        yield "the second line is not empty"
    if len(rest.split()) < 3:
        yield "there is no body that gives the reason"
    if any(len(line) > LONGEST_LINE and " " in line for line in rest.split("\n")):
        yield f"a line of the body has more than {LONGEST_LINE} characters"


def main(path):
    """Print what is wrong; 1 if something is."""
    found = list(problems(Path(path).read_text(encoding="utf-8")))
    for problem in found:
        print(f"commit message: {problem}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
