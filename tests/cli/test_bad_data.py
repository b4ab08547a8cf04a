"""Bad images, tables, texts: one line that names what is wrong and the way out, code 2, no run."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from dlarch.data.splits import carved

SHORT = (
    "--trainer.max_steps 1 --trainer.accelerator cpu --trainer.enable_progress_bar false "
    "--test_after_fit false --model.pictures false"
)


def pixels(*shape):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


@pytest.fixture
def refused(cli, here):
    """The complaint about `fit` with some options; the run that failed leaves nothing."""

    def run(options):
        before = set(Path("runs").glob("*/*"))
        outcome = cli(f"fit {options} {SHORT}")
        assert outcome.out == ""
        assert outcome.err.count("\n") == 1, outcome.err
        assert set(Path("runs").glob("*/*")) == before
        return outcome.complaint

    return run


@pytest.fixture
def folder(tmp_path):
    """Twelve images each of cats and dogs."""
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(12):
            pixels(20, 24, 3).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def images(folder, *options):
    command = f"--model cnn --model.widths [8] --data image_folder --data.source {folder}"
    return " ".join([command, *options])


def into(folder, split, name="train"):
    """Move the class folders into those of two splits."""
    for kind in ("cats", "dogs"):
        for part in (name, split):
            (folder / part / kind).mkdir(parents=True)
        for number, path in enumerate(sorted((folder / kind).iterdir())):
            path.rename(folder / (split if number < 3 else name) / kind / path.name)
        (folder / kind).rmdir()


# ---- images


@pytest.mark.parametrize("length", [0, 40, 300])
def test_a_truncated_image_is_named(refused, folder, length):
    broken = folder / "dogs" / "7.png"
    broken.write_bytes(broken.read_bytes()[:length])
    complaint = refused(images(folder))
    assert complaint.startswith(f"{broken} is no image, or damaged (")
    assert complaint.endswith("): replace or remove it.")


def test_all_images_that_cannot_be_read_are_named_together(refused, folder):
    names = [folder / "cats" / "1.png", folder / "cats" / "5.png", folder / "dogs" / "0.png"]
    for broken in names:
        broken.write_bytes(b"")
    complaint = refused(images(folder))
    assert [complaint.count(f"{name} is no image, or damaged (") for name in names] == [1, 1, 1]


def test_a_file_that_is_no_image_is_named(refused, folder):
    (folder / "cats" / "notes.jpg").write_text("whiskers")
    assert f"{folder}/cats/notes.jpg is no image" in refused(images(folder))


def test_an_empty_class_folder_is_named(refused, folder):
    (folder / "birds").mkdir()
    (folder / "birds" / "list.txt").write_text("none yet")
    complaint = refused(images(folder))
    assert f"The class folder {folder}/birds holds no images (.png, .jpg" in complaint
    assert "add some, or remove the folder" in complaint


def test_an_empty_class_folder_of_the_test_is_named(refused, folder):
    into(folder, "test")
    for path in (folder / "test" / "dogs").iterdir():
        path.unlink()
    assert f"The class folder {folder}/test/dogs holds no images" in refused(images(folder))


def test_a_split_without_classes_is_named(refused, folder):
    into(folder, "val")
    (folder / "test").mkdir()
    assert f"{folder}/test holds no class folders: add them, or" in refused(images(folder))


def test_a_class_that_train_lacks_is_named(refused, folder):
    into(folder, "test")
    (folder / "test" / "dogs").rename(folder / "test" / "dog")
    complaint = refused(images(folder))
    assert f"{folder}/test/dog: there is no such class in train: rename the folder" in complaint
    assert complaint.endswith("Did you mean 'dogs'?")


def test_one_class_is_too_few(refused, folder):
    (folder / "cats").rename(folder.parent / "cats")
    assert f"{folder} needs at least two folders, one per class" in refused(images(folder))


def test_images_too_small_for_the_model_are_explained(refused, folder):
    complaint = refused(images(folder, "--data.size 3 --model.widths [8,8]"))
    assert complaint == (
        "Images of 3 x 3 are too small for 2 stages, each of which halves them: give fewer "
        "--model.widths."
    )
    assert refused(images(folder, "--data.size 0")) == "size must be at least 1, not 0."


@pytest.mark.parametrize("shape", [[3, 9, 9], [1, 20, 24]])
def test_another_size_or_number_of_channels_is_explained(refused, folder, shape):
    given = str(shape).replace(" ", "")
    complaint = refused(images(folder, f"--model.image_shape {given}"))
    assert (
        f"made for image_shape={tuple(shape)}, the data have image_shape=(3, 20, 24)" in complaint
    )
    assert "leave the fact to the data" in complaint


def test_a_trained_model_says_what_images_it_reads(cli, refused, folder, here):
    """Without a size images are brought to the model's; one that is asked for must be its own."""
    trained = cli(f"fit {images(folder)} {SHORT}")
    assert trained.code == 0, trained.err
    again = f"--ckpt_path {trained.run.folder} --data.source {folder}"
    complaint = cli(f"test {again} --data.size 16").complaint
    assert "reads images of 20 x 24 pixels in 3 colours, the data have 16 x 16" in complaint
    assert "leave out size" in complaint
    for path in folder.rglob("*.png"):
        pixels(9, 7).save(path)
    assert cli(f"test {again}").code == 0


def write_hub(folder, change, *changed):
    """Twenty images with their labels as a data set of the Hub; `change` spoils the columns.

    Those of both splits if none is said to be `changed`.
    """
    (folder / "data").mkdir(parents=True)
    features = Features({"image": ImageFeature(), "label": ClassLabel(10)})
    rows = {"image": [pixels(12, 12) for _ in range(20)], "label": [n % 10 for n in range(20)]}
    for split in ("train", "test"):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        Dataset.from_dict(rows, features=features).to_parquet(path)
        table = pq.read_table(path)
        values = table.to_pydict()
        if split in (changed or ("train", "test")):
            change(values)
        arrays = [pa.array(values[field.name], field.type) for field in table.schema]
        pq.write_table(pa.table(arrays, schema=table.schema), path)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("label", 17, "has the label 17, but there are 10 classes, whose labels are 0 to 9: corr"),
        ("label", -2, "has the label -2, but there are 10 classes"),
        ("label", -1, "has no label: name a label_column without gaps"),
        ("label", None, "has no label"),
        ("image", {"bytes": b"no image", "path": None}, "the image cannot be read, it may be dama"),
        ("image", None, "has no image: remove the row"),
    ],
)
def test_a_bad_row_of_a_hub_data_set_is_named(refused, tmp_path, column, value, words):
    def change(values):
        values[column][4] = value

    write_hub(tmp_path / "set", change)
    complaint = refused(images(tmp_path / "set"))
    assert complaint.startswith(f"{tmp_path}/set, row 5 of split train")
    assert words in complaint


def test_a_class_of_the_hub_that_train_lacks_is_named(refused, tmp_path):
    write_hub(tmp_path / "set", lambda values: values.update(label=[1, 2] * 10), "train")
    complaint = refused(images(tmp_path / "set"))
    assert complaint.startswith("Split test has images of 0, 3, 4, 5, 6, 7, 8, 9, but train")
    assert complaint.endswith("or leave them out with --data.classes.")


# ---- tables


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("7,,x", "line 9: the field of column 'b' is empty; fill it in or remove the line"),
        ("7,14,", "line 9: the field of column 'kind' is empty; fill it in or remove the line"),
        ("7,NA,x", "line 9: 'NA' in column 'b' is no number; correct it, or leave the column out"),
        ("7,nan,x", "line 9: 'nan' in column 'b' is no number"),
        ("inf,14,x", "line 9: 'inf' in column 'a' is no number"),
        ("7,14", "line 9: 2 columns instead of 3 (a, b, kind); correct or remove the line"),
        ("7,14,x,y", "line 9: 4 columns instead of 3"),
    ],
)
def test_a_bad_cell_of_a_table_is_named_by_row_and_column(refused, tmp_path, line, words):
    lines = [f"{n},{2 * n},{'xy'[n % 2]}" for n in range(30)]
    lines[7] = line
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["a,b,kind", *lines]) + "\n")
    complaint = refused(f"--model mlp --data table --data.source {path}")
    assert complaint.startswith(f"{path}, {words}")


def test_a_class_that_the_training_rows_lack_is_named(refused, tmp_path):
    path = tmp_path / "table.csv"
    rare = carved(40, 4, 4)["test"][0]
    lines = [f"{n},{2 * n},{'rare' if n == rare else 'xy'[n % 2]}" for n in range(40)]
    path.write_text("\n".join(["a,b,kind", *lines]) + "\n", encoding="utf-8")
    complaint = refused(f"--model mlp --data table --data.source {path}")
    assert complaint.startswith(
        "Split test has rows of rare, but train has none: add some to train, or remove these."
    )


def test_a_target_that_is_no_number_among_numbers_is_named(refused, tmp_path):
    path = tmp_path / "table.csv"
    lines = [f"{n},{2 * n},{'many' if n == 9 else 3 * n}" for n in range(30)]
    path.write_text("\n".join(["a,b,c", *lines]) + "\n")
    complaint = refused(f"--model mlp --data table --data.source {path}")
    assert complaint.startswith(f"{path}, line 11: 'many' in column 'c' is no number, as most")
    assert complaint.endswith("correct it, or say classify: true.")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty: its first line must name the columns"),
        ("a,b\n", "holds no rows"),
        ("a,a\n1,2\n", "must name the columns, all differently, but is a, a"),
        ("a,b\n1,2\n3,4\n", "There are 2 rows: at least 10 are needed"),
    ],
)
def test_a_table_of_nothing_is_explained(refused, tmp_path, content, words):
    path = tmp_path / "table.csv"
    path.write_text(content)
    assert words in refused(f"--model mlp --data table --data.source {path}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--model logistic_regression --data table", "needs num_classes, which these data do not"),
        ("--model linear_regression --data logic_gates", "needs out_features, which these data do"),
        (
            "--model rnn_classifier --data labelled_text --data.label_column none",
            "give them classes (label or label_column of texts, target or classify of a table), or",
        ),
    ],
)
def test_what_the_data_lack_comes_with_a_way_out(refused, options, words):
    complaint = refused(options)
    assert words in complaint
    assert complaint.endswith("or take another model or other data (`dlarch list` shows all).")


# ---- texts


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "names --data.label gender",
            "has a name on each line and no gender: say --data.label none, or give a .csv or .tsv "
            "file with the columns name, gender.",
        ),
        (
            "labelled_text",
            "has a text on each line and no label: say --data.label_column none, or give a .csv or "
            ".tsv file with the columns text, label.",
        ),
    ],
)
def test_classes_of_a_file_without_any_are_explained(refused, tmp_path, data, words):
    path = tmp_path / "people.txt"
    path.write_text("Anna\nOtto\n" * 30)
    complaint = refused(f"--model rnn_classifier --data {data} --data.source {path}")
    assert complaint == f"{path} {words}"


def test_a_txt_file_may_have_classes_behind_tabs(refused, tmp_path):
    path = tmp_path / "people.txt"
    path.write_text("Anna\tf\nOtto\tm\n" * 30 + "Paula\n")
    complaint = refused(
        f"--model rnn_classifier --data names --data.source {path} --data.label gender"
    )
    assert complaint.startswith(f"{path}, line 61: 1 column instead of 2 (name, gender)")


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        ("rnn_classifier", "labelled_text", "add a folder of .txt files for each class, or parqu"),
        ("rnn_classifier", "names", "add .txt files, each called after its class, or parquet"),
        ("char_rnn", "text_corpus", "add texts (.txt, .md, .abc), or parquet files in the Hub's"),
    ],
)
def test_a_folder_of_nothing_is_explained(refused, tmp_path, model, data, words):
    (tmp_path / "nothing").mkdir()
    complaint = refused(f"--model {model} --data {data} --data.source {tmp_path}/nothing")
    assert complaint.startswith(f"{tmp_path}/nothing holds no data: {words}")


def test_a_file_in_utf_16_is_explained(refused, tmp_path):
    path = tmp_path / "saved.csv"
    path.write_text("text,label\n" + "good,yes\nbad,no\n" * 30, encoding="utf-16")
    complaint = refused(f"--model rnn_classifier --data labelled_text --data.source {path}")
    assert complaint == (
        f"{path}, line 1: a NUL byte at offset 3 of the file; it looks like UTF-16: save it as "
        "UTF-8, such as by `iconv -f UTF-16 -t UTF-8 OLD > NEW`."
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--data.tokens bytes", "must be 'characters' or 'words' or 'bpe', not 'bytes'."),
        ("--model.recurrent_init orthogonl", "or 'normal', not 'orthogonl'."),
    ],
)
def test_words_that_are_no_choice_are_explained(refused, options, words):
    assert refused(f"--model char_rnn --data text_corpus {options}").endswith(words)
