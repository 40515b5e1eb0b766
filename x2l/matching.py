"""Matching: does an answer say what it should, and which of several options does it name?

Source: what the parsers of lmms-eval, Video-XL and VNBench look for, where it is unambiguous.
Differs: "A or C" names no option (they take one of the two), nor does a letter inside a word (VNBench's takes
the B of "Based on") or one that is denied ("not B").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from unicodedata import normalize

_PUNCTUATION = r""".,;:!?…¿¡"'`´“”„‘’«»()\[\]{}*_\\/–—"""
# A hyphen joins words and a dash parts them; but "A-" is not "A", "-x" not "x" and "->" not ">".
_SYMBOLS = rf"(?:[^\w\s{_PUNCTUATION}-]|(?<=\w)-(?!\w)|(?<!\w)-(?=[^\W\d_])|-(?=[^\w\s{_PUNCTUATION}-]))+"
_TOKEN = re.compile(rf"[-+]?\d+(?:[.,:/]\d+)*|[^\W_]+|{_SYMBOLS}")

_ALONE = r"(?![\w'’+#&/-])"
_LABEL = re.compile(
    rf"\W*?(?:(?:option|choice|and|or)\b\W*?)?(?P<bracket>[(\[{{])?(?P<letter>[a-z]){_ALONE}"
    rf"(?P<closed>\s*(?:[)\]}}.:,;*\"'<]|\n|$)|\s+(?:[–—-]\s|(?:and|or|because|since)\b))?[\s{_PUNCTUATION}]*",
    re.IGNORECASE,
)
"""An option's letter at the start of a text; closed: by what stands behind no article ("A dog")."""
_LEAD_IN = re.compile(
    r"\b(?:answers?|(?:best|correct|right) (?:option|choice))\b"
    r"(?:\W+(?:is|was|be|would|should|must|will|to|the|this|question|most|likely|probably|clearly|therefore)\b)*",
    re.IGNORECASE,
)
_IS_WRONG = re.compile(r"is(?:n['’]t| not| wrong| incorrect| false)\b", re.IGNORECASE)
_IS_RIGHT = re.compile(r"\b([A-Z])\W? is (?:the )?(?:correct|right|best|answer)\b")
_STANDING = re.compile(rf"(?<![\w'’.&/-])(?![AI]\s(?!and\b|or\b)[a-z])([A-Z]){_ALONE}")
"""A letter that may stand for an option: neither an article nor "I"."""
_MARKED = re.compile(
    r"[(\[{]([A-Z])[)\]}]"
    r"|(?:^|[.,:;\n]|\b(?:option|choice|choose|select|pick|with|think|guess|say|is|be|so|therefore))"
    r"[^\w+-]{0,4}\b([A-Z])(?=\W{0,4}(?:$|[.,;:!\n]))"
)
"""A letter that does, wherever it stands."""
_DENIED = re.compile(r"\b(?:not|neither|nor|except|wrong|incorrect|rather|cannot)\b|n['’]t\b", re.IGNORECASE)
_LISTED = re.compile(r"(?:(?:^[ \t]*|(?<=\s))\(([A-Z])\)|^[ \t]*([A-Z])[.):])[ \t]*(?=\S)", re.MULTILINE)


def says(said: str, gold: str) -> bool:
    """Whether a text is, or begins with, the words, numbers and symbols of another.

    Case, space and punctuation do not count. Symbols do where they stick to something: "C++" is not "C".
    """
    return bool(_whole(said, [gold])) or _begins(said, gold)


def chosen(said: str, options: Sequence[str]) -> int | None:
    """The number of the option that an answer names, by its text or letter; None for none and for several.

    An answer that is an option, whole, is that option. Else what stands behind "the answer is" counts, then
    what the answer begins with, then a letter that is the only one. Of options that begin alike, the longest.
    """
    options = without_letters(options)
    found = _whole(said, options) or _declared(said, options)
    if not found and not _begins(said, " ".join(f"{_letter(i)} {text}" for i, text in enumerate(options))):
        found = _named(said, options) or _mentioned(said, options)
    return found.pop() if len(found) == 1 else None


def spelt(gold: str, options: Sequence[str]) -> int | None:
    """The number of the option that a right answer spells, by text, "B" or "(B) text"; None if none is."""
    texts, label, words = without_letters(options), _LABEL.match(gold), _tokens(gold)
    found = _whole(gold, options)
    if not found and label and (number := _number(label["letter"])) < len(options):
        behind = gold[label.end() :]
        found = {number} if not behind or number in _whole(behind, texts) else set()
    found = found or _whole(gold, texts) or _different(texts, [_tokens(text) == words for text in texts])
    return found.pop() if len(found) == 1 else None


def without_letters(options: Sequence[str]) -> list[str]:
    """Options without the letters in front of them, if all have their own: "A. red", "(B) green"."""
    letters = [_LISTED.match(option) for option in options]
    if not _are_in_order(letters):
        return list(options)
    return [option[letter.end() :].strip() for option, letter in zip(options, letters, strict=True)]


def listed(text: str) -> list[str]:
    """The options that a text lists behind their letters: "(A) red (B) green", or "A. red" in a line each.

    None unless there are two or more, whose letters are A, B and so on.
    """
    letters = list(_LISTED.finditer(text))
    if not _are_in_order(letters):
        return []
    ends = [*(letter.start() for letter in letters[1:]), len(text)]
    behind = [text[letter.end() : end] for letter, end in zip(letters, ends, strict=True)]
    return [lines.partition("\n")[0].strip() for lines in behind]


def _are_in_order(letters: Sequence[re.Match[str] | None]) -> bool:
    found = [letter and (letter[1] or letter[2]) for letter in letters]
    return len(found) > 1 and found == [_letter(i) for i in range(len(found))]


def _whole(said: str, options: Sequence[str]) -> set[int]:
    """The options that a text is: to the letter, or else but for case, or else for the marks around it."""
    for form in (_spaced, _folded, _stripped):
        if form(said) and (found := _different(options, [form(said) == form(text) for text in options])):
            return found
    return set()


def _declared(said: str, options: Sequence[str]) -> set[int]:
    """The options that are said to be right."""
    behind = _LEAD_IN.split(said)[1:]
    return set().union(*(_named(text, options) for text in [*behind, *_IS_RIGHT.findall(said)]))


def _named(said: str, options: Sequence[str]) -> set[int]:
    """The options that a text begins with, by letters, then by text; several where they contradict."""
    found: set[int] = set()
    while True:
        own, label = _texts(said, options), _LABEL.match(said)
        if label is None or (number := _number(label["letter"])) >= len(options) or number in found:
            return found | own
        said = said[label.end() :]
        is_letter = label["bracket"] or (label["closed"] is not None and not own)
        if _IS_WRONG.match(said) or not (is_letter or _texts(said, options) == {number}):
            return found | own
        found.add(number)


def _texts(said: str, options: Sequence[str]) -> set[int]:
    """The options that a text is or begins with: the longest of these."""
    lengths = [_begins(said, option) * len(_tokens(option)) for option in options]
    return _whole(said, options) or _different(options, [length == max(lengths) > 0 for length in lengths])


def _mentioned(said: str, options: Sequence[str]) -> set[int]:
    """The option whose letter is the only one in a text, if it stands there for an option."""
    marked = {letter for letters in _MARKED.findall(said) for letter in letters if letter}
    letters = marked | set(_STANDING.findall(said)) if marked and not _DENIED.search(said) else set()
    return {_number(letter) for letter in letters if _number(letter) < len(options)}


def _different(options: Sequence[str], fits: Sequence[bool]) -> set[int]:
    """The options that fit; of equal ones the first."""
    return {options.index(option) for option, fit in zip(options, fits, strict=True) if fit}


def _begins(said: str, gold: str) -> bool:
    wanted = _tokens(gold)
    found = list(islice(_TOKEN.finditer(_folded(said)), len(wanted) + 1))
    if not wanted or [token[0] for token in found[: len(wanted)]] != wanted:
        return False
    last, *behind = found[len(wanted) - 1 :]
    return not any(token.start() == last.end() and not token[0][0].isalnum() for token in behind)


def _spaced(text: str) -> str:
    return " ".join(normalize("NFC", text).split())


def _folded(text: str) -> str:
    return _spaced(text).casefold()


def _stripped(text: str) -> str:
    return _folded(text).strip(" .,;:!?…\"'`“”‘’*")


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(_folded(text))


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _number(letter: str) -> int:
    return ord(letter.upper()) - ord("A")
