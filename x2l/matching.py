"""Matching: does an answer say what it should, and which of several options does it name?

Source: what the parsers of lmms-eval, Video-XL and VNBench look for, where it is unambiguous.
Differs: "A or C" names no option (they take one of the two), nor does a letter inside a word (VNBench's takes
the B of "Based on") or one that is denied ("not B").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
_IS_RIGHT = re.compile(r"\b([A-Z])\W? is (?:the )?(?:correct|right|best|answer)\b")
_STANDING = re.compile(rf"(?<![\w'’.&/-])(?![AI]\s(?!and\b|or\b)[a-z])([A-Z]){_ALONE}")
"""A letter that may stand for an option: neither an article nor "I"."""
_MARKED = re.compile(
    r"[(\[{]([A-Z])[)\]}]"
    r"|(?:^|[.,:;\n]|\b(?:option|choice|choose|select|pick|with|think|guess|say|is|be|so|therefore))"
    r"[^\w+-]*\b([A-Z])(?=\W*(?:$|[.,;:!\n]))"
)
"""A letter that does, wherever it stands."""
_DENIED = re.compile(r"\b(?:not|neither|nor|except|wrong|incorrect|rather|cannot)\b|n['’]t\b", re.IGNORECASE)
_LISTED = re.compile(r"^[ \t]*(?:\(([A-Z])\)|([A-Z])[.):])[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


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
    lines = options if all(map(_LISTED.fullmatch, options)) else ()
    return listed("\n".join(lines)) or list(options)


def listed(text: str) -> list[str]:
    """The options that a text lists in lines, each behind its letter; none unless these are A, B, ..."""
    lines = _LISTED.findall(text)
    letters = [one or other for one, other, _ in lines]
    is_list = len(lines) > 1 and letters == [_letter(i) for i in range(len(lines))]
    return [option for *_, option in lines] if is_list else []


def _whole(said: str, options: Sequence[str]) -> set[int]:
    """The options that a text is: to the letter, or else but for case, or else for the marks around it."""
    for form in (_spaced, _folded, _stripped):
        if form(said) and (found := _different(options, [form(said) == form(text) for text in options])):
            return found
    return set()


def _declared(said: str, options: Sequence[str]) -> set[int]:
    """The options that are said to be right."""
    behind = [said[lead_in.end() :] for lead_in in _LEAD_IN.finditer(said)]
    return set().union(*(_named(text, options) for text in [*behind, *_IS_RIGHT.findall(said)]))


def _named(said: str, options: Sequence[str]) -> set[int]:
    """The options that a text begins with, by letter or text; several if these contradict each other."""
    lengths = [_begins(said, option) * len(_tokens(option)) for option in options]
    own = _whole(said, options) or _different(options, [length == max(lengths) > 0 for length in lengths])
    label = _LABEL.match(said)
    if label is None or (number := _number(label["letter"])) >= len(options):
        return own
    named = _named(said[label.end() :], options)
    is_letter = label["bracket"] or (label["closed"] is not None and not own)
    return {number} | named if named == {number} or is_letter else own


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
    found = list(_TOKEN.finditer(_folded(said)))
    if not wanted or [token[0] for token in found[: len(wanted)]] != wanted:
        return False
    end = found[len(wanted) - 1].end()
    behind = found[len(wanted) : len(wanted) + 1]
    return not (behind and behind[0].start() == end and not behind[0][0][0].isalnum())


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
