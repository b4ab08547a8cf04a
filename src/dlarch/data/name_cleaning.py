"""Cleaning of people's names as they come from tables, forms and web pages.

`clean_names` mends what is certainly not part of a name, drops what is certainly no name, leaves
everything else, and tells what it did. Cleaning twice changes nothing more. These rules change a
name, in this order:

- encoding: HTML entities (O&#39;Neil) and UTF-8 that was read as Windows-1252 (JosÃ©).
- spelling: Unicode form NFC, single spaces, and plain single apostrophes and hyphens for
  typographic and repeated ones.
- brackets: text in brackets beside a name is removed.
- second names: a comma, semicolon, slash or bar ends the name, for what stands before it is a name
  in every layout: the last name of "Smith, John", the person of "Sammy Davis, Jr.". Nothing is
  turned around, since lists of first or last names need one of the two only.
- signs: all but letters, spaces, apostrophes, hyphens within a name, points after a letter and the
  middle dots of Gal·la and of foreign names in Chinese or Japanese.
- titles: Mr, Dr., Frau and the like before a name. Titles that are names as well (Don, Dean, St)
  and M., an initial more often than a Monsieur, stay.
- suffixes: Jr, Sr, II, III, IV, PhD, MD, DDS and Esq after a name.
- case: JEAN-PIERRE O'NEIL and anna, but only where most names of the file are capitalised and
  others not. Names in mixed case, such as McDonald or van der Berg, stay.
- labels: single spaces, and the most frequent spelling of those that differ in case only.

And these drop a row:

- empty: nothing but white space.
- placeholders: n/a, unknown and the like. Words such as unknown stay in files wholly in lower case,
  where nothing tells them from a name; Null, Na, Nan and None are names too, and are dropped only
  where they are not capitalised while most others are.
- no letters: nothing is left.
- broken words: a sign or digit in the midst of a word, as in M?ller, where letters were lost.
- mixed scripts: a word with letters of two alphabets, such as Latin with a Cyrillic look-alike.
- too long: no name, but a sentence or an address.
- empty label.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from unicodedata import normalize

from dlarch.data.name_rules import (
    MAX_CHARACTERS,
    capitalised,
    cleaned_name,
    script_of,
)

MAX_EXAMPLES = 3
"""How many examples of each rule a report keeps."""

Row = tuple[str, ...]
"""A name and its labels, if any."""


@dataclass(frozen=True)
class RuleCount:
    """How often one of the rules was used."""

    rule: str
    count: int
    examples: tuple[str, ...]
    """At most `MAX_EXAMPLES`, in quotes: a dropped name, or `'before' -> 'after'`."""

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.rule} {self.count:,} ({', '.join(self.examples)}{more})"


@dataclass(frozen=True)
class CleaningReport:
    """What `clean_names` did; read = kept + the sum of dropped."""

    read: int
    """Rows that came in."""
    kept: int
    """Rows that went out."""
    changed: tuple[RuleCount, ...]
    """Kept rows by rule that changed them; a row may count for several."""
    dropped: tuple[RuleCount, ...]
    """Dropped rows by reason; a row counts for one."""
    scripts: dict[str, int]
    """Kept names by script, such as Latin, most frequent first; a name may count for several."""

    def text(self) -> str:
        """One paragraph for the log."""
        sentences = [f"Read {self.read:,} names and kept {self.kept:,}."]
        if not self.dropped and not self.changed:
            sentences = [f"Read {self.read:,} names and changed none."]
        for what, rules in (("Dropped", self.dropped), ("Changed", self.changed)):
            if rules:
                sentences.append(f"{what}: {', '.join(map(str, rules))}.")
        if len(self.scripts) > 1:
            counts = (f"{script} {count:,}" for script, count in self.scripts.items())
            sentences.append(f"Scripts: {', '.join(counts)}.")
        return " ".join(sentences)


def clean_names(rows: Iterable[Row]) -> tuple[list[Row], CleaningReport]:
    """Mend or drop messy names and their labels; see the module for the rules.

    Exact duplicates stay.

    Args:
        rows: one tuple a name: the name, then its labels. All have as many.

    Returns:
        The kept rows, in their order, and the report.
    """
    read = 0
    dropped = _Tally()
    kept: list[_Candidate] = []
    for row in rows:
        read += 1
        name, changes, reason = cleaned_name(row[0])
        candidate = _Candidate(name, list(row[1:]), changes)
        for column, label in enumerate(row[1:]):
            candidate.relabel(column, normalize("NFC", " ".join(label.split())))
        if reason is None and not all(candidate.labels):
            reason = "empty label"
        if reason is None:
            kept.append(candidate)
        else:
            dropped.add(reason, _quoted(row[0]))
    kept = _judged_by_case(kept, dropped)
    _merge_labels(kept)
    changed = _Tally()
    for candidate in kept:
        for rule, (before, after) in candidate.changes.items():
            changed.add(rule, f"{_quoted(before)} -> {_quoted(after)}")
    scripts = Counter(script for candidate in kept for script in _scripts(candidate.name))
    return [(candidate.name, *candidate.labels) for candidate in kept], CleaningReport(
        read=read,
        kept=len(kept),
        changed=changed.counts(),
        dropped=dropped.counts(),
        scripts=dict(scripts.most_common()),
    )


@dataclass
class _Candidate:
    """A row on its way."""

    name: str
    labels: list[str]
    changes: dict[str, tuple[str, str]]
    """The rules that changed it, with text before and after."""

    def relabel(self, column: int, label: str) -> None:
        if label != self.labels[column]:
            self.changes.setdefault("labels", (self.labels[column], label))
            self.labels[column] = label


class _Tally:
    """Counts and examples of rules, in the order of their first use."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, rule: str, example: str) -> None:
        self._counts[rule] += 1
        examples = self._examples.setdefault(rule, [])
        if len(examples) < MAX_EXAMPLES and example not in examples:
            examples.append(example)

    def counts(self) -> tuple[RuleCount, ...]:
        return tuple(
            RuleCount(rule, count, tuple(self._examples[rule]))
            for rule, count in self._counts.items()
        )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "...")


_PLACEHOLDERS = {
    *("unknown", "unnamed", "undefined", "anonymous", "noname", "no name"),
    *("not available", "unbekannt", "inconnu", "desconocido"),
}
_PLACEHOLDERS_OR_NAMES = {"null", "na", "nan", "none"}


def _judged_by_case(candidates: list[_Candidate], dropped: _Tally) -> list[_Candidate]:
    """Drop placeholders, and capitalise names as most of the others are, if they are."""

    def drop(candidate: _Candidate) -> None:
        dropped.add("placeholders", _quoted(candidate.name))

    # Placeholders go first and capitals are judged once, so that a second cleaning judges alike.
    if not all(candidate.name.islower() for candidate in candidates):
        named = []
        for candidate in candidates:
            if candidate.name.casefold() in _PLACEHOLDERS:
                drop(candidate)
            else:
                named.append(candidate)
        candidates = named
    if not _are_capitalised([candidate.name for candidate in candidates]):
        return candidates
    kept = []
    for candidate in candidates:
        name = candidate.name
        if name.casefold() in _PLACEHOLDERS_OR_NAMES and name != name.capitalize():
            drop(candidate)
            continue
        if _has_wrong_case(name):
            candidate.name = capitalised(name)
            candidate.changes["case"] = (name, candidate.name)
        kept.append(candidate)
    return kept


def _are_capitalised(names: list[str]) -> bool:
    """Whether more names have both cases than have one that can be mended."""
    usual = sum(any(map(str.isupper, name)) and any(map(str.islower, name)) for name in names)
    return usual > sum(_has_wrong_case(name) for name in names)


def _has_wrong_case(name: str) -> bool:
    """Whether a name is all in capitals or all in lower case, and would not stay so."""
    may_be_initials = name.isupper() and sum(map(str.isalpha, name)) <= 2
    one_case = name.isupper() or name.islower()
    return one_case and not may_be_initials and capitalised(name) != name


def _merge_labels(candidates: list[_Candidate]) -> None:
    """Write labels that differ only in case as most rows do."""
    for column in range(len(candidates[0].labels) if candidates else 0):
        spellings = Counter(candidate.labels[column] for candidate in candidates)
        usual: dict[str, str] = {}
        for label, _ in spellings.most_common():
            usual.setdefault(label.casefold(), label)
        for candidate in candidates:
            candidate.relabel(column, usual[candidate.labels[column].casefold()])


def _scripts(name: str) -> list[str]:
    """The scripts of a name, as the report calls them: Latin, CJK."""
    scripts = dict.fromkeys(script_of(char) for char in name if char.isalpha())
    return [script if script == "CJK" else script.capitalize() for script in scripts if script]
