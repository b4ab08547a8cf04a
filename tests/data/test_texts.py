"""Texts with a class: files, folders, the Hub's layout, generated ones; the cache they share."""

from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from dlarch import create_data
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.spec import EOS, UNK

SPLITS = ("train", "validation", "test")
MOODS = ("good", "bad", "odd")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def row(number):
    return f"A text, number {number}.", MOODS[number % 3]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.tsv"
    lines = ["text\tlabel", *("\t".join(row(number)) for number in range(400))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def opened(source, name="labelled_text", **options):
    data = create_data(name, source=str(source), **options)
    data.prepare_data()
    data.setup()
    return data


def rows_of(data, split):
    """Texts, decoded, and names of classes of all examples of a split."""
    names = data.processor.class_names
    return [
        (text, names[label])
        for batch in data.in_order(split)
        for text, label in zip(
            data.processor.decode(batch.tokens), batch.label.tolist(), strict=True
        )
    ]


def test_a_file_is_read_as_lower_cased_words_with_their_classes(file):
    data = opened(file)
    assert data.processor.class_names == sorted(MOODS)
    assert data.spec.num_classes == data.spec.num_conditions == 3
    assert data.spec.vocab_size == data.processor.tokens.vocab_size
    sizes = {split: len(data.dataset(split)) for split in SPLITS}
    assert sum(sizes.values()) == 400
    assert min(sizes["validation"], sizes["test"]) > 8
    # Numbers occur once each, and are unknown.
    assert set(rows_of(data, "train")) <= {("a text, number.", mood) for mood in MOODS}
    batch = next(iter(data.val_dataloader()))
    written = [row(number) for number in range(400)]
    assert set(zip(batch.text, (data.processor.class_names[n] for n in batch.label), strict=True)
               ) <= set(written)  # fmt: skip
    assert (batch.tokens == UNK).sum(1).eq(1).all()


def test_equal_texts_are_in_one_split(tmp_path):
    path = tmp_path / "twice.csv"
    lines = [f'"text {number % 100}",{number % 2}' for number in range(400)]
    path.write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    data = opened(path, tokens="characters")
    parts = [{text for text, _ in rows_of(data, split)} for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 100


def test_columns_may_have_other_names(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("".join(f"{n},review {n},{MOODS[n % 2]}\n" for n in range(200)))
    data = opened(
        path, columns=["id", "review", "mood"], text_column="review", label_column="mood",
        tokens="characters",
    )  # fmt: skip
    assert data.processor.label_name == "mood"
    assert all(text.startswith("review ") for text, _ in rows_of(data, "test"))


def test_train_size_picks_at_random_but_always_alike(tmp_path):
    path = tmp_path / "sorted.csv"
    lines = [f"{'up' if n < 200 else 'down'} {n},{'a' if n < 200 else 'b'}" for n in range(400)]
    path.write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    data = opened(path, train_size=60, tokens="characters")
    found = rows_of(data, "train")
    assert len(found) == 60
    assert 15 < Counter(label for _, label in found)["a"] < 45
    whole = opened(path, tokens="characters")
    assert set(found) < set(rows_of(whole, "train"))
    assert rows_of(data, "test") == rows_of(whole, "test")
    assert data.spec.fingerprint != whole.spec.fingerprint


def test_classes_are_left_out_and_put_together(file):
    data = opened(file, classes=["odd", "good"], tokens="characters")
    assert data.processor.class_names == ["odd", "good"]
    assert {label for split in SPLITS for _, label in rows_of(data, split)} == {"odd", "good"}
    merged = opened(file, classes={"fine": ["good", "odd"], "bad": ["bad"]}, tokens="characters")
    expected = {"good": "fine", "odd": "fine", "bad": "bad"}
    texts = dict(row(number) for number in range(400))
    assert all(expected[texts[text]] == label for text, label in rows_of(merged, "test"))
    with pytest.raises(DataError, match=r"no class 'god'.* Did you mean 'good'"):
        opened(file, classes=["god", "bad"])


def test_class_folders_with_official_splits(tmp_path):
    for split, count in (("train", 40), ("test", 10)):
        for mood in ("neg", "pos"):
            folder = tmp_path / "films" / split / mood
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.txt").write_text(f"{mood} {split} {number}\nend\n")
    data = opened(tmp_path / "films", tokens="characters")
    assert data.processor.class_names == ["neg", "pos"]
    assert len(data.dataset("test")) == 20
    assert len(data.dataset("train")) + len(data.dataset("validation")) == 80
    for split in SPLITS:
        for text, label in rows_of(data, split):
            assert text.startswith(f"{label} {'test' if split == 'test' else 'train'} ")
            assert text.endswith("\nend")


def write_hub(folder, splits, label):
    (folder / "data").mkdir(parents=True)
    features = Features({"text": Value("string"), "label": label})
    for split, rows in splits.items():
        columns = {"text": [text for text, _ in rows], "label": [mood for _, mood in rows]}
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        Dataset.from_dict(columns, features=features).to_parquet(path)
    return folder


def test_the_hubs_layout_keeps_the_order_of_its_classes(tmp_path):
    splits = {"train": [(f"<br /><br />Film {n}!", n % 2) for n in range(100)]}
    splits["test"] = [(f"<br />Film {n}!", n % 2) for n in range(100, 120)]
    folder = write_hub(tmp_path / "films", splits, ClassLabel(names=["neg", "pos"]))
    data = opened(folder)
    assert data.processor.class_names == ["neg", "pos"]
    assert len(data.dataset("test")) == 20
    films = opened(folder, "imdb")
    assert next(iter(films.test_dataloader())).text[0].split()[0] == "Film"


def test_labels_of_the_hub_may_be_texts(tmp_path):
    rows = [(f"text {n}", MOODS[n % 2]) for n in range(200)]
    folder = write_hub(tmp_path / "texts", {"train": rows}, Value("string"))
    assert opened(folder).processor.class_names == ["bad", "good"]
    with pytest.raises(DataError, match=r"no column 'labels', only text, label. Did you mean"):
        opened(folder, label_column="labels")


@pytest.mark.parametrize("label", ["parity", "digits"])
def test_numbers_in_words_have_classes(label):
    data = create_data("labelled_text", label_column=label, language="fr", train_size=500)
    data.prepare_data()
    data.setup()
    found = dict(rows_of(data, "validation"))
    assert len(found) == 1000
    for words, number in (("mille un", 1001), ("deux cent deux", 202), ("trente et un", 31)):
        is_of = ("even", "odd")[number % 2] if label == "parity" else str(len(str(number)))
        assert found.get(words, is_of) == is_of
    assert set(found.values()) == ({"even", "odd"} if label == "parity" else {"2", "3", "4"})
    with pytest.raises(OptionError, match="parity, digits and none, not colour"):
        create_data("labelled_text", label_column="colour").prepare_data()


def test_texts_need_no_classes(tmp_path, file):
    """Numbers, a column of a table, a column of the Hub, the lines of a file."""
    hub = {"train": [row(number) for number in range(400)]}
    folder = write_hub(tmp_path / "hub", hub, Value("string"))
    lines = tmp_path / "lines.txt"
    written = ["text", "a\tt", *(f"Line of text {number}" for number in range(398))]
    lines.write_text("\n".join(written) + "\n", encoding="utf-8")
    for source in ("number_words", file, folder, lines):
        data = opened(source, label_column="none", tokens="characters")
        assert data.processor.class_names is None
        assert data.spec.num_classes is None
        assert next(iter(data.train_dataloader())).label is None
        sizes = [len(data.dataset(split)) for split in SPLITS]
        assert sum(sizes) == (10_000 if source == "number_words" else 400)
    found = [
        text
        for split in SPLITS
        for batch in data.in_order(split)
        for text in data.processor.decode(batch.tokens)
    ]
    assert sorted(found) == sorted(written)
    lines.write_text("one\n\ntwo\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"lines.txt, line 2 is empty"):
        opened(lines, label_column="none")


def test_the_longest_text_is_known_and_long_ones_are_cut(file):
    data = opened(file, tokens="characters", max_length=5, keep="last")
    assert data.dataset("train").tokens.lengths.max() == 7
    assert all(text.endswith(".") and len(text) == 5 for text, _ in rows_of(data, "train"))
    assert data.processor.longest == 7


def test_a_second_build_reads_the_cache_and_settings_make_another(file, cache):
    first = opened(file)
    again = opened(file)
    assert first.processor == again.processor
    assert len(list((cache / "texts").glob("[!.]*/manifest.json"))) == 1
    for options in ({"tokens": "bpe"}, {"max_length": 3}, {"classes": ["good", "bad"]}):
        opened(file, **options)
    assert len(list((cache / "texts").glob("[!.]*/manifest.json"))) == 4


def test_the_processor_of_a_model_reads_its_way(file, tmp_path, caplog):
    given = opened(file).processor
    other = tmp_path / "other.csv"
    lines = [f"new words number {n},{MOODS[n % 3]}" for n in range(200)]
    other.write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    caplog.set_level("INFO", logger="dlarch")
    data = opened(other, processor=given)
    assert data.processor is given
    assert "% of the tokens of the test texts are unknown" in caplog.text
    assert data.dataset("test").tokens.tokens.max() < given.tokens.vocab_size
    lines = [f"text {n},{'good' if n % 2 else 'worse'}" for n in range(200)]
    other.write_text("text,label\n" + "\n".join(lines), encoding="utf-8")
    with pytest.raises(MismatchError, match="classes bad, good, odd, the data have good, worse"):
        opened(other, processor=given)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["text,label", *(f"text {n},{'x' if n == 3 else 'y'}" for n in range(200))],
         "class 'x' has one training text only"),
        (["text,label", *(f"text {n},y" for n in range(200))], "all|All texts are of one class"),
        (["text,label", "text 1,x", ",y"], "line 3: the field of column 'text' is empty"),
        (["text,label", "text 1,x", "text 2,"], "line 3: the field of column 'label' is empty"),
        (["text,label", *(f"text {n},{n % 2}" for n in range(4))], "There are no|one training"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, lines, said):
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        opened(path)


def test_bytes_that_are_no_text_are_named_with_file_and_place(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_bytes(b"text,label\nfine,x\ncaf\xe9,y\n")
    with pytest.raises(DataError, match=r"texts.csv, line 3: byte 0xe9 at offset 21"):
        opened(path)


def test_batches_lead_with_texts_of_similar_length(file):
    data = opened(file, tokens="characters", batch_size=8)
    for batch in data.train_dataloader():
        assert batch.tokens[:, -1].eq(EOS).any()
    plan = data.training_plan(3, 0)
    assert plan[0].tolist() != data.training_plan(3, 1)[0].tolist()
