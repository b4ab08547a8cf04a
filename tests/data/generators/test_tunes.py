import re
import shutil
import subprocess
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest

import dlarch.data.generators.tunes as module
from dlarch.data.generators.tunes import EXERCISES, KEYS, KINDS, METRES, MODES, Key, tunes
from dlarch.errors import OptionError

HEAD = re.compile(
    r"X:(?P<number>\d+)\nT:(?P<title>.+ in .+)\nM:(?P<metre>\d/\d)\n"
    r"L:(?P<unit>1/\d+)\nK:(?P<key>\S+)\n"
)
MODE_NAMES = {"": "major", "m": "minor", "dor": "dorian", "mix": "mixolydian"}


def bars(tune: str) -> list[str]:
    """What stands between the barlines."""
    body = "".join(tune.splitlines()[5:])
    return [bar for bar in re.split(r"[|:\]]*\|[|:\]]*", body) if bar]


def degrees(bar: str) -> list[int]:
    """Letters as numbers, one a step, C being 0."""
    found = re.findall("([A-Ga-g])([,']*)", bar)
    return [
        "CDEFGAB".index(letter.upper()) + 7 * (letter.islower() + mark.count("'") - mark.count(","))
        for letter, mark in found
    ]


def length(bar: str) -> int:
    """Units in a bar without chords."""
    return sum(int(number or 1) for number in re.findall(r"[A-Ga-g][,']*(\d*)", bar))


@pytest.fixture(scope="module")
def made() -> list[str]:
    return tunes(2_000)


@pytest.fixture(scope="module")
def scores(made):
    """The first 60 tunes, and what music21 reads in them."""
    converter = pytest.importorskip("music21").converter
    return [(tune, converter.parse(tune, format="abc")) for tune in made[:60]]


def test_all_of_2000_tunes_are_different(made):
    assert len({tune.split("\n", 1)[1] for tune in made}) == 2_000
    assert len({"".join(bars(tune)) for tune in made}) == 2_000


def test_a_tune_is_made_of_headers_and_four_lines(made):
    metres = {kind.capitalize(): metre for kind, metre in METRES.items()}
    for number, tune in enumerate(made, 1):
        head = HEAD.match(tune)
        kind, tonic, *mode = head["title"].replace(" in ", " ").split()
        metre = metres[kind]
        assert (int(head["number"]), head["metre"]) == (number, metre.signature)
        assert head["unit"] == metre.unit
        assert head["key"] == tonic + MODES[mode[0] if mode else "major"].suffix
        assert tune.isascii()
        assert tune.endswith(":|\n")
        assert "\n\n" not in tune
        first, second, third, fourth = tune.splitlines()[5:]
        assert first[:2] == third[:2] == "|:"
        assert second[-2:] == fourth[-2:] == ":|"


def test_all_kinds_and_modes_occur_and_few_characters(made):
    heads = [HEAD.match(tune) for tune in made]
    assert Counter(head["title"].split()[0] for head in heads).most_common()[-1][1] > 400
    assert Counter(re.sub("[A-G]", "", head["key"]) for head in heads).keys() == MODE_NAMES.keys()
    assert len(set("".join(made))) < 60
    assert max(map(len, made)) < 300


def test_every_part_has_eight_full_bars(made):
    for tune in made[:500]:
        head = HEAD.match(tune)
        full = Fraction(head["metre"]) / Fraction(head["unit"])
        assert [length(bar) for bar in bars(tune)] == [full] * 16


def test_music21_reads_full_bars_between_repeat_signs(scores):
    for tune, score in scores:
        measures = list(score.recurse().getElementsByClass("Measure"))
        assert len(measures) == 16
        full = 4 * Fraction(HEAD.match(tune)["metre"])
        assert all(measure.duration.quarterLength == full for measure in measures)
        assert all(measures[begin].leftBarline.direction == "start" for begin in (0, 8))
        assert all(measures[end].rightBarline.direction == "end" for end in (7, 15))


def test_notes_are_in_the_key_within_a_twelfth_and_end_on_the_tonic(scores):
    from music21.key import Key as ReadKey

    for tune, score in scores:
        tonic, suffix = re.fullmatch("([A-G])(.*)", HEAD.match(tune)["key"]).groups()
        pitches = [note.pitch for note in score.recurse().notes]
        scale = {pitch.name for pitch in ReadKey(tonic, MODE_NAMES[suffix]).pitches}
        assert {pitch.name for pitch in pitches} <= scale
        steps = [pitch.diatonicNoteNum for pitch in pitches]
        assert max(steps) - min(steps) <= 11
        assert pitches[-1].name == tonic
        assert abs(steps[-1] - steps[-2]) == 1


def test_most_moves_are_steps_and_leaps_turn_back_by_step(made):
    moves = Counter()
    for tune in made[:300]:
        for part in bars(tune)[:8], bars(tune)[8:]:
            melody = degrees("".join(part))
            steps = [after - before for before, after in pairwise(melody)]
            moves.update(abs(step) for step in steps)
            for step, following in pairwise(steps):
                if abs(step) > 2:
                    assert following == (-1 if step > 0 else 1)
                assert step or following
    assert moves[1] / moves.total() == pytest.approx(0.70, abs=0.02)
    assert sum(moves[move] for move in (1, 2)) / moves.total() > 0.9
    assert max(moves) == 5


def test_strong_beats_are_chord_tones_and_others_pass_by_step():
    music21 = pytest.importorskip("music21")
    share = Counter()
    for tune in tunes(15, seed=4, chord_symbols=True):
        metre = METRES[tune.split("T:")[1].split()[0].lower()]
        unit = 4 * Fraction(metre.unit)
        score = music21.converter.parse(tune, format="abc")
        chord: set[str] = set()
        notes = []  # pitch, whether it belongs to its chord
        for measure in score.recurse().getElementsByClass("Measure"):
            for element in measure.notes:
                if isinstance(element, music21.harmony.ChordSymbol):
                    chord = {pitch.name for pitch in element.pitches}
                    continue
                fits = element.pitch.name in chord
                units = element.duration.quarterLength / unit
                assert fits or (element.offset / unit not in metre.strong and units < metre.held)
                notes.append((element.pitch.diatonicNoteNum, fits))
        for (before, _), (degree, fits), (after, _) in zip(
            notes, notes[1:], notes[2:], strict=False
        ):
            assert fits or abs(degree - before) == abs(after - degree) == 1
        share.update(fits for _, fits in notes)
    assert 0.15 < share[False] / share.total() < 0.4


def test_parts_have_a_half_cadence_and_a_full_one():
    for tune in tunes(150, chord_symbols=True):
        key = HEAD.match(tune)["key"]
        mode = MODE_NAMES[key[1:]]
        roots = ["5"] if mode == "major" else ["5", "7"]
        dominants = {Key(key[0], mode).symbol(int(root)) for root in roots}
        chords = [re.findall('"(.+?)"', bar) for bar in bars(tune)]
        for part in chords[:8], chords[8:]:
            assert part[3][-1] in dominants
            *_, dominant, tonic = part[6] + part[7]
            assert dominant in dominants
            assert tonic == Key(key[0], mode).symbol(1)


def test_bars_come_back(made):
    rhymes = moved = 0
    for tune in made[:500]:
        written = bars(tune)
        for begin in (0, 8):
            assert written[begin + 4 : begin + 6] == written[begin : begin + 2]
            assert written[begin + 7] != written[begin + 3]
        rhymes += written[14:] == written[6:8]
        first, second = degrees(written[0]), degrees(written[1])
        same_rhythm = re.sub("[A-Ga-g,']", "", written[0]) == re.sub("[A-Ga-g,']", "", written[1])
        intervals = {after - before for before, after in zip(first, second, strict=False)}
        moved += same_rhythm and len(intervals) == 1 and intervals != {0}
    assert rhymes / 500 == pytest.approx(0.4, abs=0.1)
    assert moved / 500 > 0.1


def test_tunes_keep_to_few_rhythms_but_not_to_one_length(made):
    for tune in made[:500]:
        rhythms = [re.sub("[A-Ga-g][,']*", "n", bar) for bar in bars(tune)]
        assert len(set("".join(rhythms)) - {" "}) > 1
        uncadenced = {rhythm for index, rhythm in enumerate(rhythms) if index % 8 not in (3, 7)}
        assert len(uncadenced) <= 2


def test_the_seed_decides_and_a_longer_list_begins_with_the_shorter(made):
    assert tunes(30) == made[:30]
    others = {tune.split("\n", 1)[1] for tune in tunes(100, seed=1)}
    assert not others & {tune.split("\n", 1)[1] for tune in made}
    assert tunes(0) == []


def test_the_first_tune_is_the_same_everywhere():
    assert tunes(1)[0] == (
        "X:1\n"
        "T:Polka in D minor\n"
        "M:2/4\n"
        "L:1/16\n"
        "K:Dm\n"
        "|:D2E2 F2GA|C2D2 E2FG|F2DC D2EF|A2B2 A4|\n"
        "D2E2 F2GA|C2D2 E2FG|A2FE D2CD|E2C2 D4:|\n"
        "|:d2cB A2Bc|d2cB A2Bc|d2cB d2ef|g2e2 c4|\n"
        "d2cB A2Bc|d2cB A2Bc|d2e2 d2BG|E2DC D4:|\n"
    )


def test_nothing_but_random_is_drawn_from(monkeypatch):
    class Bare:
        def __init__(self, seed):
            self.random = Random(seed).random

    expected = tunes(5, seed=8, kinds=KINDS + EXERCISES)
    monkeypatch.setattr(module, "Random", Bare)
    assert tunes(5, seed=8, kinds=KINDS + EXERCISES) == expected


def test_chord_symbols_stand_above_the_same_melody(made):
    for bare, tune in zip(made[:50], tunes(50, chord_symbols=True), strict=True):
        assert re.sub('"[A-G]#?b?m?"', "", tune) == bare
        assert all(bar.startswith('"') for bar in bars(tune))


@pytest.mark.parametrize(
    ("key", "symbols"),
    [
        (Key("G", "major"), "G Am Bm C D Em F#dim"),
        (Key("D", "minor"), "Dm Edim F Gm Am Bb C"),
        (Key("E", "dorian"), "Em F#m G A Bm C#dim D"),
        (Key("A", "mixolydian"), "A Bm C#dim D Em F#m G"),
        (Key("Eb", "major"), "Eb Fm Gm Ab Bb Cm Ddim"),
    ],
)
def test_triads_have_the_accidentals_of_the_key(key, symbols):
    assert [key.symbol(root) for root in range(1, 8)] == symbols.split()


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_can_be_chosen(kind):
    made = tunes(10, kinds=[kind])
    assert {HEAD.match(tune)["metre"] for tune in made} == {METRES[kind].signature}


def test_keys_are_those_that_music21_knows():
    music21 = pytest.importorskip("music21")
    assert len(set(KEYS)) == 60
    for key in KEYS:
        tune = f"X:1\nM:4/4\nL:1/4\nK:{key.tonic}{MODES[key.mode].suffix}\nCDEF|GABc|\n"
        score = music21.converter.parse(tune, format="abc")
        read = {note.pitch.name for note in score.recurse().notes}
        tonic = key.tonic.replace("b", "-")
        assert read == {pitch.name for pitch in music21.key.Key(tonic, key.mode).pitches}


def test_scales_fill_their_bars_and_end_on_the_tonic():
    made = tunes(300, kinds=["scale"])
    names = {HEAD.match(tune)["title"].split(" in ")[0] for tune in made}
    assert names >= {"Scale", "Falling scale", "Two octaves", "Thirds", "Arpeggio"}
    for tune in made:
        head = HEAD.match(tune)
        full = Fraction(head["metre"]) / Fraction(head["unit"])
        assert {length(bar) for bar in bars(tune)} == {full}
        assert bars(tune)[-1].strip("1234567890',")[-1].upper() == head["key"][0]
        assert tune.endswith("|]\n")


def test_voices_of_cadences_move_little_and_not_all_with_the_bass():
    music21 = pytest.importorskip("music21")
    seen = 0
    for tune in tunes(60, kinds=["cadence"]):
        score = music21.converter.parse(tune, format="abc")
        measures = list(score.recurse().getElementsByClass("Measure"))
        full = 4 * Fraction(HEAD.match(tune)["metre"])
        assert [measure.duration.quarterLength for measure in measures] == [full] * 8
        if "[" not in bars(tune)[0][:1]:
            continue
        seen += 1
        chords = [[p.diatonicNoteNum for p in m.notes[0].pitches] for m in measures]
        for before, after in pairwise(chords):
            bass, *upper = (new - old for old, new in zip(before, after, strict=True))
            assert sum(map(abs, upper)) <= 4
            assert not all(move * bass > 0 for move in upper)
        assert measures[-1].notes[0].pitches[0].name[0] == HEAD.match(tune)["key"][0]
    assert seen > 10


def test_exercises_do_not_repeat_and_run_out():
    made = tunes(1_000, kinds=EXERCISES)
    assert len({tune.split("\n", 1)[1] for tune in made}) == 1_000
    with pytest.raises(OptionError, match="only 2520 different"):
        tunes(3_000, kinds=["scale"])


def test_music21_writes_midi(scores, tmp_path):
    _, score = scores[0]
    path = score.write("midi", fp=tmp_path / "tune.mid")
    assert (tmp_path / "tune.mid").read_bytes()[:4] == b"MThd"
    read = pytest.importorskip("music21").converter.parse(path)
    # Both parts are played twice.
    assert read.duration.quarterLength == 2 * score.duration.quarterLength


@pytest.mark.skipif(shutil.which("abc2midi") is None, reason="abc2midi is not installed")
@pytest.mark.parametrize("chord_symbols", [False, True])
def test_abc2midi_has_no_complaints(chord_symbols, tmp_path):
    path = tmp_path / "tunes.abc"
    path.write_text("\n".join(tunes(200, kinds=KINDS + EXERCISES, chord_symbols=chord_symbols)))
    run = subprocess.run(
        ["abc2midi", path, "-c"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert not re.search("error|warning", run.stdout + run.stderr, re.IGNORECASE)


def test_impossible_wishes_are_refused():
    with pytest.raises(OptionError, match="count of tunes is -1"):
        tunes(-1)
    with pytest.raises(OptionError, match=r"'reels'.* Did you mean 'reel'"):
        tunes(1, kinds=["reels"])
    with pytest.raises(OptionError, match="give some of reel, jig"):
        tunes(1, kinds=[])
