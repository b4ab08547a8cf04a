"""Tunes, scales and cadences in ABC notation, made from a seed by the rules of music theory.

They are text from which a character model learns to write music, without a download. A tune has:

- Form: two parts of eight bars, each repeated (AABB). Bars 5 and 6 of a part are bars 1 and 2; bar
  2 or 3 may be bar 1, as it is or moved to another chord (sequence); part B often ends like part A.
- Harmony: a chord or two per bar. Bar 4 is a half cadence, to the dominant (V); bars 7 and 8 are a
  full one, from the dominant to the tonic (V-I). In mixolydian, dorian and minor the chord on VII
  may be the dominant, as in folk tunes; no note leaves the key signature.
- Melody: notes on strong beats and held notes belong to the chord, others also may be passing or
  neighbour tones, reached and left by step. A leap (more than a third) is followed by a step the
  other way. Notes lie within a twelfth. The last is the tonic and reached by step.
- Rhythm: two bar patterns of the metre, to which the tune keeps up to the cadences.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from dlarch.data.generators import shuffled
from dlarch.errors import OptionError, did_you_mean

LETTERS = "CDEFGAB"
FIFTHS = "FCGDAEB"  # sharps enter a key signature in this order, flats from the other end
_ACCIDENTALS = {"": 0, "#": 7, "b": -7}  # how many fifths an accidental is


class Mode(NamedTuple):
    """A scale, and the chords of music in it by the degrees of their roots, two bars at a time.

    A blank is a barline; "51" is a bar that goes from degree 5 to degree 1.
    """

    flats: int  # by how many flats the key signature differs from major
    suffix: str  # what ABC writes after the tonic
    tonics: str  # of tunes
    openings: str
    half_cadences: str
    full_cadences: str


MODES = {
    "major": Mode(
        *(0, "", "CDFGA", "1 4, 1 5, 1 2, 1 6, 4 1, 6 5"),
        *("1 5, 4 5, 2 5, 1 25, 6 25", "5 1, 25 1, 1 51, 4 51, 2 51"),
    ),
    "mixolydian": Mode(
        *(1, "mix", "ADG", "1 7, 1 4, 1 5, 7 1"),
        *("1 7, 4 7, 1 5, 1 47", "7 1, 47 1, 1 71, 4 71, 7 51"),
    ),
    "dorian": Mode(
        *(2, "dor", "ADEG", "1 7, 1 4, 1 3, 7 1"),
        *("1 7, 4 7, 1 5, 3 7", "7 1, 45 1, 1 71, 4 71, 7 51"),
    ),
    "minor": Mode(
        *(3, "m", "ABDEG", "1 7, 1 4, 1 6, 3 7"),
        *("1 5, 4 5, 6 7, 1 7, 6 5", "5 1, 67 1, 1 51, 4 51, 6 71"),
    ),
}


class Key(NamedTuple):
    """A tonic, such as "G", "Bb" or "F#", and the name of a mode."""

    tonic: str
    mode: str

    def note(self, degree: int) -> str:
        """The ABC note that lies `degree` steps above the tonic, which is in C to B."""
        octave, place = divmod(LETTERS.index(self.tonic[0]) + degree, 7)
        letter = LETTERS[place]
        return letter + "," * -octave if octave < 1 else letter.lower() + "'" * (octave - 1)

    def symbol(self, root: int) -> str:
        """The chord symbol of the triad on degree `root` (1 to 7), such as "F#m"."""
        letter = LETTERS[(LETTERS.index(self.tonic[0]) + root - 1) % 7]
        flats = MODES[self.mode].flats
        sharps = FIFTHS.index(self.tonic[0]) - 1 - flats + _ACCIDENTALS[self.tonic[1:]]
        place = FIFTHS.index(letter)
        accidental = "#" if place < sharps else "b" if place >= 7 + sharps else ""
        # In the order of fifths, three triads of a scale are major, three minor, one diminished.
        return letter + accidental + ("", "m", "dim")[(2 * root - 1 + flats) % 7 // 3]


KEYS = [
    Key(FIFTHS[place % 7] + ("", "#", "b")[place // 7], name)
    for name, mode in MODES.items()
    for place in range(mode.flats - 6, mode.flats + 9)
]
"""Every key whose signature has at most seven sharps or flats."""


class Metre(NamedTuple):
    """A dance: bars are lengths of notes in units, with blanks between beams."""

    signature: str
    unit: str
    strong: tuple[int, ...]  # where the strong beats are, in units from the barline
    held: int  # from how many units a note is a held one
    bars: str
    half_cadences: str
    full_cadences: str


METRES = {
    "reel": Metre(
        *("4/4", "1/8", (0, 4), 2, "1111 1111, 211 1111, 1111 211, 31 1111, 211 211"),
        *("1111 22, 211 22, 1111 4", "1111 4, 211 4, 22 4"),
    ),
    "jig": Metre(
        *("6/8", "1/8", (0, 3), 2, "111 111, 21 111, 111 21, 21 21"),
        *("111 3, 21 3, 111 21", "111 3, 21 3"),
    ),
    "waltz": Metre(
        *("3/4", "1/8", (0,), 3, "2 2 2, 31 2, 4 11, 2 2 11, 2 11 2, 2 11 11, 11 11 2"),
        *("4 2, 2 4, 6", "6"),
    ),
    "polka": Metre(
        *("2/4", "1/16", (0, 4), 3, "22 22, 211 22, 22 211, 211 211, 31 22"),
        *("22 4, 211 4", "22 4, 211 4"),
    ),
}

KINDS = tuple(METRES)
"""The kinds of tune: reel, jig, waltz, polka."""

EXERCISES = ("scale", "cadence")
"""Simpler material: scales and arpeggios; chords as blocks or broken, with voice leading."""

# A letter is a bar: s and t are a and d on another chord, hj half cadences, fk full ones.
_FIRST_PARTS = ("asbhascf", "abehabcf", "abahabcf", "aabhaacf", "asahascf")
_SECOND_PARTS = ("dtgjdt", "digjdi", "didjdi", "ddgjdd", "dtdjdt")
_MOVED = {"s": "a", "t": "d"}
# About where the melody is in four bars, in degrees above the tonic.
_CONTOURS = ("0241", "2421", "4231", "0424", "2021", "4642")
# How readily the melody moves by so many degrees, where the rules leave a choice.
_MOVES = {0: 5, 1: 120, 2: 50, 3: 10, 4: 10, 5: 3}
# Scales and the like in degrees above the tonic.
_FIGURES = {
    "Scale": (*range(8), *range(6, -1, -1)),
    "Falling scale": (*range(7, 0, -1), *range(8)),
    "Two octaves": (*range(15), *range(13, -1, -1)),
    "Thirds": (0, 2, 1, 3, 2, 4, 3, 5, 4, 6, 5, 7, 6, 8, 7),
    "Groups of four": (0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 7),
    "Arpeggio": (0, 2, 4, 7, 4, 2, 0),
    "Broken chord": (0, 4, 2, 7, 4, 9, 7),
}
# Bars of bass, low, middle and high voice; u is the upper three at once, a all at once.
_TEXTURES = {"a8": "4/4", "a6": "3/4", "blmh mlml": "4/4", "b2u2u2": "3/4", "blm hml": "6/8"}
_Bar = tuple[str, str]  # chords and rhythm


class _Slot(NamedTuple):
    """What is known of a note before it is chosen."""

    chord: tuple[int, ...]  # its degrees, within an octave
    is_strong: bool
    is_first: bool  # of its part
    is_last: bool
    target: int
    source: int | None  # the slot that it repeats, `shift` degrees higher
    shift: int


def tunes(
    count: int, seed: int = 0, *, kinds: Sequence[str] = KINDS, chord_symbols: bool = False
) -> list[str]:
    """Compose different tunes; those of a shorter list are the first of a longer one.

    Args:
        count: how many.
        seed: decides the tunes.
        kinds: some of `KINDS` and `EXERCISES`, drawn evenly.
        chord_symbols: write the chords, such as "G", above the notes. They are left out by default:
            the text is shorter, and a model must hear the harmony in the melody.

    Returns:
        Complete ABC tunes, numbered from 1, of several lines, none of them blank.

    Raises:
        OptionError: for a negative count, unknown kinds, or more exercises than there are.
    """
    if count < 0:
        raise OptionError(f"count of tunes is {count}; give 0 or more.")
    known = (*KINDS, *EXERCISES)
    for kind in kinds or [""]:
        if kind not in known:
            raise OptionError(
                f"kinds has {kind!r}; give some of {', '.join(known)}.{did_you_mean(kind, known)}"
            )
    random = Random(seed)
    found: dict[str, None] = {}  # as an ordered set
    for _ in range(20 * count):
        kind = _pick(kinds, random)
        write = _tune if kind in KINDS else _exercise
        found[write(kind, chord_symbols, random)] = None
        if len(found) == count:
            break
    if len(found) < count:
        raise OptionError(f"tunes found only {len(found)} different ones; lower count.")
    return [f"X:{number}\n{text}" for number, text in enumerate(found, 1)]


def _tune(kind: str, chord_symbols: bool, random: Random) -> str:
    mode = _pick(tuple(MODES), random)
    metre, key = METRES[kind], Key(_pick(MODES[mode].tonics, random), mode)
    compass = range(-1, 11) if key.tonic in "CDEF" else range(-3, 9)
    melody: list[int] = []
    while not melody:
        plan, bars = _plan(MODES[mode], metre, random)
        melody = _melody(_slots(plan, bars, metre, random), compass, random)
    degrees = iter(melody)
    written = [_write_bar(bars[letter], key, degrees, chord_symbols) for letter in plan]
    lines = _joined("|", written, 4)
    body = f"|:{lines[0]}|\n{lines[1]}:|\n|:{lines[2]}|\n{lines[3]}:|\n"
    return _head(kind.capitalize(), metre.signature, metre.unit, key) + body


def _exercise(kind: str, chord_symbols: bool, random: Random) -> str:
    key = KEYS[int(random.random() * len(KEYS))]
    if kind == "scale":
        kind, metre = _pick(tuple(_FIGURES), random), _pick(("2/4", "3/4", "4/4"), random)
        unit, beam = ("1/8", 2) if random.random() < 0.5 else ("1/4", 1)
        size = int(metre[0]) * beam
        notes = [key.note(degree) for degree in _FIGURES[kind]]
        rest = size - (len(notes) - 1) % size
        notes[-1] += str(rest) * (rest > 1)
        bars = _joined(" ", _joined("", notes, beam), size // beam)
    else:
        unit, texture = "1/8", _pick(tuple(_TEXTURES), random)
        metre, bars = _TEXTURES[texture], []
        chord: tuple[int, ...] = ()
        for root in map(int, _progression(MODES[key.mode], True, random)):
            chord = _voiced(chord, root)
            names = [key.note(degree - 7 * (key.tonic[0] in "GAB")) for degree in chord]
            upper = "".join(names[1:])
            tones = dict(zip("blmhua", (*names, f"[{upper}]", f"[{names[0]}{upper}]"), strict=True))
            shape = texture if len(bars) < 7 else f"a{8 * int(metre[0]) // int(metre[2])}"
            symbol = f'"{key.symbol(root)}"' * chord_symbols
            bars.append(symbol + "".join(tones.get(mark, mark) for mark in shape))
    body = "|\n".join(_joined("|", bars, 4)) + "|]\n"
    return _head(kind.capitalize(), metre, unit, key) + body


def _voiced(before: Sequence[int], root: int) -> tuple[int, ...]:
    """Bass, low, middle and high voice: a root, and its triad in the nearest close position."""

    def effort(chord: Sequence[int]) -> int:
        bass, *upper = (new - old for old, new in zip(before, chord, strict=True))
        # Upper voices that all go the way of the bass make parallel fifths or octaves.
        return sum(map(abs, upper)) + 10 * all(move * bass > 0 for move in upper)

    tones = [degree for degree in range(15) if (degree - root + 1) % 7 in (0, 2, 4)]
    chords = [(root - 8, *upper) for upper in zip(tones, tones[1:], tones[2:], strict=False)]
    return min(chords, key=effort) if before else chords[2]


def _progression(mode: Mode, whole_bars: bool, random: Random) -> list[str]:
    """The chords of eight bars; with whole_bars, none of them changes within a bar."""
    opening, half, full = (
        _pick([bars for bars in text.split(", ") if len(bars) == 3 or not whole_bars], random)
        for text in (mode.openings, mode.half_cadences, mode.full_cadences)
    )
    return f"{opening} {half} {opening} {full}".split()


def _plan(mode: Mode, metre: Metre, random: Random) -> tuple[str, dict[str, _Bar]]:
    """A letter for each of 16 bars, and the chords and the rhythm of each letter."""
    plan = _pick(_FIRST_PARTS, random) + _pick(_SECOND_PARTS, random) + _pick(("cf", "lk"), random)
    patterns = metre.bars.split(", ")
    usual, other = (patterns[index] for index in shuffled(len(patterns), random)[:2])
    bars: dict[str, _Bar] = {}
    for part in plan[:8], plan[8:]:
        progression = _progression(mode, len(metre.strong) == 1, random)
        for letter, chords in zip(part, progression, strict=True):
            rhythm = other if random.random() < 0.35 else usual
            if letter in "hjfk":
                cadences = metre.half_cadences if letter in "hj" else metre.full_cadences
                rhythm = _pick(cadences.split(", "), random)
            elif letter in _MOVED:
                rhythm = bars[_MOVED[letter]][1]
            bars.setdefault(letter, (chords, rhythm))
    return plan, bars


def _slots(plan: str, bars: dict[str, _Bar], metre: Metre, random: Random) -> list[_Slot]:
    """The places of all notes."""
    slots: list[_Slot] = []
    begins: dict[str, int] = {}
    for index, letter in enumerate(plan):
        if index % 4 == 0:
            contour = _pick(_CONTOURS, random)
        # Part B is higher; both come home.
        target = (0, 2, int(contour[index % 4]) + index // 8 * 3)[min(2, 7 - index % 8)]
        origin, shift = letter, 0
        if letter in _MOVED and letter not in begins:
            origin = _MOVED[letter]
            # By the interval between the roots, up or down, whichever is less.
            shift = (int(bars[letter][0]) - int(bars[origin][0]) + 3) % 7 - 3
        notes, source = _notes(bars[letter]), begins.get(origin)
        begins.setdefault(letter, len(slots))
        for place, (offset, length, root) in enumerate(notes):
            slots.append(
                _Slot(
                    chord=tuple((root + third) % 7 for third in (-1, 1, 3)),
                    is_strong=offset in metre.strong or length >= metre.held,
                    is_first=index % 8 == 0 and place == 0,
                    is_last=index % 8 == 7 and place == len(notes) - 1,
                    target=target,
                    source=None if source is None else source + place,
                    shift=shift,
                )
            )
    return slots


def _notes(bar: _Bar) -> list[tuple[int, int, int]]:
    """Offset, length and root of the chord of each note."""
    lengths = [int(mark) for mark in bar[1] if mark != " "]
    offsets = [sum(lengths[:place]) for place in range(len(lengths))]
    roots = [int(bar[0][offset * len(bar[0]) // sum(lengths)]) for offset in offsets]
    return list(zip(offsets, lengths, roots, strict=True))


def _melody(slots: Sequence[_Slot], compass: Sequence[int], random: Random) -> list[int]:
    """A degree for each slot, going back where the rules leave none; [] if that takes long."""
    melody: list[int] = []

    def choices() -> Iterator[int]:
        """What may come next, in random order, likely degrees first as a rule."""
        slot = slots[len(melody)]
        degrees = compass if slot.source is None else [melody[slot.source] + slot.shift]
        weights = {d: _weight(d, slots, melody) for d in degrees if d in compass}
        while total := sum(weights.values()):
            point = random.random() * total
            for degree, weight in weights.items():
                point -= weight
                if point < 0:
                    weights[degree] = 0
                    yield degree
                    break

    open_choices = [choices()]
    for _ in range(4 * len(slots)):
        degree = next(open_choices[-1], None)
        if degree is not None:
            melody.append(degree)
            if len(melody) == len(slots):
                return melody
            open_choices.append(choices())
        elif melody:
            open_choices.pop()
            melody.pop()
    return []


def _weight(degree: int, slots: Sequence[_Slot], melody: Sequence[int]) -> int:
    """How well a degree goes on from the melody, 0 if a rule forbids it."""
    slot = slots[len(melody)]
    fits = degree % 7 in slot.chord
    if (slot.is_strong and not fits) or (slot.is_last and degree != 0):
        return 0
    # In whole numbers: other sums are not the same in all versions of Python.
    weight = 6000 // (6 + (degree - slot.target) ** 2)
    if slot.is_first:
        return weight
    before, last = slots[len(melody) - 1], melody[-1]
    move = degree - last
    if abs(move) != 1 and (slot.is_last or not fits or last % 7 not in before.chord):
        return 0
    earlier = 1 if before.is_first else last - melody[-2]
    if earlier == move == 0 or (abs(earlier) > 2 and move != (-1 if earlier > 0 else 1)):
        return 0
    # Less of what was just heard, or the melody goes to and fro.
    return weight * _MOVES.get(abs(move), 0) // (1 + melody[-5:].count(degree)) ** 2


def _write_bar(bar: _Bar, key: Key, degrees: Iterator[int], chord_symbols: bool) -> str:
    written, sounding = [], 0
    for _, length, root in _notes(bar):
        symbol = f'"{key.symbol(root)}"' if chord_symbols and root != sounding else ""
        written.append(symbol + key.note(next(degrees)) + str(length) * (length > 1))
        sounding = root
    notes = iter(written)
    return "".join(mark if mark == " " else next(notes) for mark in bar[1])


def _head(name: str, metre: str, unit: str, key: Key) -> str:
    title = f"{name} in {key.tonic}" + f" {key.mode}" * (key.mode != "major")
    return f"T:{title}\nM:{metre}\nL:{unit}\nK:{key.tonic}{MODES[key.mode].suffix}\n"


def _joined(mark: str, items: Sequence[str], size: int) -> list[str]:
    """Groups of so many items, joined by the mark."""
    return [mark.join(items[begin : begin + size]) for begin in range(0, len(items), size)]


def _pick(options: Sequence[str], random: Random) -> str:
    return options[int(random.random() * len(options))]
