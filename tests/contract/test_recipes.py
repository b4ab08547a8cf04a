"""Every recipe runs as it stands, on 16 examples in the layout of its own source."""

import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlarch import AutoModel, data_info, list_models, model_info
from dlarch.batches import ImageBatch
from dlarch.callbacks.features import first_filters, last_linear
from dlarch.callbacks.tokens import token_tables
from dlarch.cli.main import main
from dlarch.data.names import EMBEDDED
from dlarch.data.pairs import GENERATORS
from dlarch.recipes import find_recipe, list_recipes

DOCS = Path(__file__).parents[2] / "docs"
RECIPES = [recipe.name for recipe in list_recipes()]
EACH = pytest.mark.parametrize("recipe", RECIPES)
ONE_OF_EACH = list({recipe.model: recipe.name for recipe in reversed(list_recipes())}.values())
"""Processes matter to a model's code, not its sizes: its first recipe is enough."""
ONE_PER_TASK = list(
    {
        (model_info(recipe.model).task, model_info(recipe.model).load().learns_by): recipe.name
        for recipe in sorted(list_recipes(), key=lambda recipe: -len(recipe.name))
    }.values()
)  # of each the one with the shortest name, which is a small one
"""How options reach the Trainer is the task's affair, not the model's."""


def settings(recipe, section="data"):
    """Data module or model, and its arguments, as the recipe asks for them."""
    asked = yaml.safe_load(find_recipe(recipe).read_text(encoding="utf-8"))[section]
    if isinstance(asked, str):
        return asked, {}
    return asked["class_path"], asked.get("init_args", {})


def translation_words(arguments, root: Path):
    """Options for 16 pairs, and the files that they need."""
    source = arguments.get("source", "dates")
    # Untrained models write until they are stopped: few sentences are enough.
    few = ["--trainer.limit_val_batches", "2", "--trainer.limit_test_batches", "1"]
    if source in GENERATORS:
        fixed = source == "number_words"  # of its 500 batches one is an epoch
        size = ["--trainer.limit_train_batches", "0.002"] if fixed else ["--data.train_size", "16"]
        return [*size, *few]
    languages = [arguments.get("source_language", "fr"), arguments.get("target_language", "en")]
    pairs = [(f"ein Mann {i % 4} geht", f"a man {i % 4} walks") for i in range(16)]
    if Path(source).suffix:
        path, number = root / source, 400  # as many as leave some for validation and test
        columns = arguments.get("columns", languages)
        rows = (
            dict(zip(languages, (f"{i} {pairs[i % 16][0]}", pairs[i % 16][1]), strict=True))
            for i in range(number)
        )
        lines = ("\t".join(row[column] for column in columns) for row in rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return ["--data.train_size", "16", *few]
    folder = root / source
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        records = (json.dumps(dict(zip(languages, pair, strict=True))) for pair in pairs)
        (folder / f"{split}.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    return few


def image_words(arguments, root: Path):
    """Options for 16 images; the files are there."""
    few = ["--data.validation_size", "16"] if arguments.get("validation_size") else []
    return ["--data.train_size", "16", *few]


def shape_words(arguments, root: Path):
    """Options for 16 of few figures."""
    return ["--data.size", "40", "--data.train_size", "16"]


def few_rows(arguments, root: Path):
    """A truth table has few enough."""
    return []


def folder_words(arguments, root: Path):
    """Options for 16 smaller images; the class folders lie in the working directory."""
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 8)):
        for kind in ("ants", "bees"):
            folder = Path(arguments["source"]) / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return ["--data.train_size", "16", "--data.size", "48"]


def place_weights(arguments) -> None:
    """Random weights where torch.hub keeps those that a recipe asks for."""
    from torchvision.models import get_model, get_model_weights

    name = arguments["body"]
    url = get_model_weights(name)[arguments["weights"]].url
    path = Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints" / Path(url).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(get_model(name).state_dict(), path)


def table_words(arguments, root: Path):
    """Options for a table of 20 rows, of which two each are held out."""
    rows = [",".join(str(math.sin((j + 2) * i * i)) for j in range(4)) for i in range(20)]
    path = root / "rows.csv"
    path.write_text("a,b,c,target\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return ["--data.source", str(path)]


def sequence_words(arguments, root: Path):
    """Options for 16 short sequences."""
    return ["--data.train_size", "16", "--data.eval_size", "16", "--data.length", "12"]


def wave_words(arguments, root: Path):
    """The same, longer than what a recipe has to continue, and continued for as many steps."""
    longer = ["--data.length", "60", "--data.eval_length", "24"]
    return [*sequence_words(arguments, root), *longer]


def curve_words(arguments, root: Path):
    """Options for 20 points, of which two each are held out."""
    return ["--data.size", "20"]


def point_words(arguments, root: Path):
    """Options for few points of each class, of which a batch is an epoch."""
    return ["--data.size", "400", "--trainer.limit_train_batches", "1"]


def name_words(arguments, root: Path):
    """Options for 16 names of an embedded list, of a file, or of files called after classes."""
    source = arguments.get("source", "first_names")
    if source in EMBEDDED:
        return ["--data.train_size", "16", "--data.locales", "[fi_FI, it_IT]"]
    if source.endswith(".txt"):
        names = (f"{a}{b}{c}" for a in "abcde" for b in "aeiou" for c in "nm")
        (root / source).write_text("\n".join(names), encoding="utf-8")
        return ["--data.train_size", "16"]
    folder = root / source
    folder.mkdir(parents=True)
    for language, ending in (("Finnish", "nen"), ("Polish", "ski")):
        names = (f"{a}{b}{ending}" for a in "ABCDE" for b in "aeiou")
        (folder / f"{language}.txt").write_text("\n".join(names), encoding="utf-8")
    return ["--data.train_size", "16"]


def text_words(arguments, root: Path):
    """Options for all numbers in words, since few have one digit, or for 16 sentences of pairs."""
    source = arguments.get("source", "number_words")
    if source == "number_words" and arguments.get("label_column") == "digits":
        return ["--trainer.limit_train_batches", "0.002"]  # of 500
    if "/" not in source:
        return ["--data.train_size", "16"]
    sides = {"source_language": "de", "target_language": arguments["text_column"]}
    return translation_words({"source": source, **sides}, root)


def corpus_words(arguments, root: Path):
    """Options for a text of a few hundred letters, for 16 tunes, or for all numbers."""
    source = arguments.get("source", "number_words")
    if source == "abc_tunes":
        return ["--data.train_size", "16"]
    if source == "number_words":
        return ["--trainer.limit_train_batches", "2"]
    folder = root / source
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.txt").write_text("To be, or not to be:\nthat is\n" * 60, encoding="utf-8")
    return []


LAYOUTS = dict.fromkeys(("digits", "mnist", "cifar10"), image_words)
LAYOUTS |= {"logic_gates": few_rows, "toy_2d": point_words, "shapes": shape_words}
LAYOUTS |= {"translation": translation_words, "image_folder": folder_words}
LAYOUTS |= {"text_corpus": corpus_words}
LAYOUTS |= {"table": table_words, "curves_1d": curve_words, "names": name_words}
LAYOUTS |= {"sine": wave_words, "adding": sequence_words, "recall": sequence_words}
LAYOUTS |= dict.fromkeys(("labelled_text", "imdb"), text_words)
"""Data module to what writes its examples and gives the options for them."""

IMAGES = {
    "Translation": (),
    "Supervised": ("confusion",),
    "TextClassifier": ("confusion",),
    "ImageAutoencoder": ("samples/reconstructions", "samples/interpolations", "codes"),
    "ClusteredImages": (
        "samples/reconstructions",
        "samples/interpolations",
        "samples/nearest",
        "codes",
    ),
    "LatentImages": (
        "samples/reconstructions",
        "samples/interpolations",
        "samples/images",
        "samples/traversals",
        "codes",
    ),
    "AutoencoderWithCritic": (
        "samples/reconstructions",
        "samples/interpolations",
        "samples/images",
        "codes",
    ),
    "Adversarial": (),
    "TextAutoencoder": (),
    "LatentText": (),
    "SequenceRegressor": ("predictions",),
    "LanguageModel": (),
    "ClosedForm": ("predictions",),
}
"""Pictures that a task of each kind draws at a validation, whatever the model and the data."""

SOMETIMES = {"attention/1", "attention/2", "attention/3", "attention", "curve", "forecast"}
SOMETIMES |= {"gradients/through_time", "samples/denoised", "moves"}
"""Pictures that depend on the examples or on options of the model."""

OURS = ("train/", "val/", "test/", "gradients/", "health/")
"""What the scalars begin with that dlarch logs, and not Lightning."""

SHORT = [
    *("--trainer.max_steps", "2", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
    *("--trainer.val_check_interval", "1.0", "--trainer.check_val_every_n_epoch", "1"),
    *("--trainer.limit_val_batches", "8", "--trainer.limit_test_batches", "2"),
    *("--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"),
    *("--data.batch_size", "16"),
]


def words(recipe, tmp_path, *more):
    name, arguments = settings(recipe)
    options = LAYOUTS[name](arguments, Path(os.environ["DLARCH_DATA"]))
    model_arguments = settings(recipe, "model")[1]
    if model_arguments.get("weights") is not None:
        place_weights(model_arguments)
    if model_arguments.get("critic_steps", 1) > 1:  # the generator learns within two steps
        options += ["--model.critic_steps", "1"]
    return ["fit", "--config", recipe, *SHORT, *options, *more]


def served(recipe, helpers):
    """The model of a recipe."""
    return helpers.Subject(next(r.model for r in list_recipes() if r.name == recipe))


def only_run(tmp_path) -> Path:
    (found,) = (tmp_path / "runs").glob("*/*")
    return found


def metrics(tmp_path):
    record = json.loads((only_run(tmp_path) / "metrics.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(value) for value in record["metrics"].values())
    return record["metrics"]


def explained(model: str) -> str:
    """What the page of a model says of its metrics and pictures."""
    text = (DOCS / "models" / f"{model}.md").read_text(encoding="utf-8")
    return text.partition("## What each logged metric means")[2].partition("\n## ")[0]


def test_every_model_has_a_recipe_and_every_recipe_a_model(helpers):
    served = {recipe.model for recipe in list_recipes()}
    assert served == set(list_models())
    for recipe in list_recipes():
        assert helpers.takes(model_info(recipe.model).load(), data_info(recipe.data).load())
        assert recipe.data in LAYOUTS


@EACH
def test_a_recipe_says_how_to_run_it_and_what_to_expect(recipe):
    text = find_recipe(recipe).read_text(encoding="utf-8")
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"dlarch fit --config recipes/{recipe}.yaml" in line for line in comment)
    assert any(line.startswith("# Expected: ") for line in comment)
    assert text.startswith("# ")


@EACH
def test_a_recipe_runs_and_tensorboard_shows_it(recipe, tmp_path, capsys, helpers):
    assert main(words(recipe, tmp_path)) == 0, capsys.readouterr().err
    run = only_run(tmp_path)
    subject = served(recipe, helpers)
    assert set(subject.losses) <= metrics(tmp_path).keys()
    for name in ("config.yaml", "spec.json", "metrics.json", "checkpoints/last.ckpt"):
        assert (run / name).is_file(), name
    events = EventAccumulator(str(run / "logs"), size_guidance={"images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    scalars = set(tags["scalars"])
    assert set(subject.losses) <= scalars
    alternating = hasattr(subject.cls, "take_step")
    of_gradients = {"train/lr", "gradients/total"}
    if alternating:
        of_gradients = {"train/lr", "train/lr_1", "gradients/total_0", "gradients/total_1"}
    assert of_gradients & scalars == (of_gradients if subject.by_gradients else set())
    assert any(tag.startswith("health/update/") for tag in scalars) == subject.by_gradients
    model = AutoModel.from_pretrained(run)
    assert {f"val/{name}" for name in model.metrics("val")} <= scalars
    steps = [event.step for event in events.Scalars(subject.losses[0])]
    assert steps == ([2] if alternating else [1, 2])
    logged = {tag for tag in scalars if tag.startswith(OURS)}
    assert all(math.isfinite(e.value) for tag in logged for e in events.Scalars(tag))
    hparams = events.PluginTagToContent("hparams")
    assert any("session_start_info" in tag for tag in hparams)
    assert sum(tag.startswith("hp/val/") for tag in scalars) == 1  # the metric that was watched
    task = model_info(subject.name).task
    numbers = task == "Supervised" and not model.classifies
    expected = {
        *IMAGES["ClosedForm" if numbers else task],
        *(["health/layers"] if subject.by_gradients else []),
    }
    if task == "Adversarial":
        expected |= {"samples/images" if model.makes_images else "samples/points"}
    if task == "LanguageModel":
        expected |= {"units"} if subject.by_gradients else set()
    if task == "Translation":
        assert any(tag.startswith("samples/translations") for tag in tags["tensors"])
        batch = subject.example()[1]
        attends = subject.make().attention_maps(batch.source, batch.target) is not None
        expected |= {"attention/0"} if attends else set()
    if task in ("TextAutoencoder", "LatentText"):
        shown = {"samples/reconstructions", "samples/interpolations"}
        assert shown <= {tag.removesuffix("/text_summary") for tag in tags["tensors"]}
    if task in ("LanguageModel", "LatentText"):
        texts = events.Tensors("samples/texts/text_summary")
        assert len(texts[-1].tensor_proto.string_val[0].decode().strip().splitlines()) > 1
    if hasattr(model, "vocabularies"):
        for name, rows, _ in token_tables(model, model.vocabularies()):
            files = list((run / "logs").glob(f"*/{name}/metadata.tsv"))
            assert len(files) == int(model.with_pictures)
            assert all(len(f.read_text("utf-8").splitlines()) == len(rows) for f in files)
            assert f"`{name}`" in explained(subject.name)
    if task == "TextClassifier":
        expected |= {"attention/0"} if hasattr(model, "word_weights") else set()
    if task == "Supervised" and not numbers:
        images = data_info(settings(recipe)[0]).load().batch_type is ImageBatch
        expected |= {"mistakes"} if images else set()  # rows of a table are not drawn
        expected |= {"filters"} if first_filters(model) is not None else set()
        expected |= {"decision_surface"} if model.hparams.get("in_features") == 2 else set()
        projector = run / "logs" / "projector_config.pbtxt"
        assert projector.is_file() == (model.with_pictures and last_linear(model) is not None)
        if last_linear(model) is not None:
            assert "`features`" in explained(subject.name)
    assert {tag.partition("/")[0] for tag in expected} <= set(
        re.findall(r"`(\w+)[`/]", explained(subject.name))
    )
    expected = expected if model.with_pictures else set()
    assert expected == {tag for tag in tags["images"] if tag not in SOMETIMES}
    for tag in expected:
        pixels = np.asarray(Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string)))
        assert pixels.std() > 5


@pytest.mark.parametrize("recipe", ONE_PER_TASK)
def test_a_recipe_runs_in_bf16_with_clipping(recipe, tmp_path, capsys, helpers):
    options = {"precision": "bf16-mixed"}
    if served(recipe, helpers).by_gradients:
        options["gradient_clip_val"] = "0.01"
    asked = [word for name in options for word in (f"--trainer.{name}", options[name])]
    assert main(words(recipe, tmp_path, *asked)) == 0, capsys.readouterr().err
    losses = {tag for tag in served(recipe, helpers).losses if tag.startswith("val/")}
    assert losses <= metrics(tmp_path).keys()
    config = yaml.safe_load((only_run(tmp_path) / "config.yaml").read_text(encoding="utf-8"))
    assert {name: str(config["trainer"][name]) for name in options} == options


@pytest.mark.parametrize("recipe", ONE_OF_EACH)
def test_clipping_is_refused_where_there_is_nothing_to_clip(recipe, tmp_path, capsys, helpers):
    if served(recipe, helpers).by_gradients:
        pytest.skip("this model has gradients to clip")
    assert main(words(recipe, tmp_path, "--trainer.gradient_clip_val", "0.01")) == 2
    assert "leave out gradient_clip_val" in capsys.readouterr().err


TWO_PROCESSES = """
import json, os, sys, traceback
from dlarch.cli.main import main

for recipe, words in json.load(open("words.json")).items():
    os.environ["DLARCH_RUNS"] = os.path.abspath(f"runs/{recipe}")
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank > 0:  # the first process makes the run's folder
        os.environ["DLARCH_RUN_FOLDER"] = os.path.abspath(f"rank_{rank}/{recipe}")
    code = main(words)
    print("recipe", recipe, "rank", rank, "code", code, file=sys.stderr, flush=True)
    if code:
        os._exit(code)
"""


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory, session_data, session_cache, helpers):
    """Each recipe run in two processes, all in the same two: what they said, and where it lies."""
    folder = tmp_path_factory.mktemp("two")
    environment = os.environ | {
        "DLARCH_CACHE": str(session_cache),
        "DLARCH_DATA": str(session_data),
        "TORCH_HOME": str(session_data / "torch"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    options = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--data.batch_size", "8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("DLARCH_DATA", "TORCH_HOME"):
            patch.setenv(name, environment[name])
        asked = {
            recipe: [*words(recipe, folder), *options]
            for recipe in ONE_OF_EACH
            if (served(recipe, helpers).name, "two processes") not in helpers.EXEMPTIONS
        }
    (folder / "words.json").write_text(json.dumps(asked), encoding="utf-8")
    (folder / "two.py").write_text(TWO_PROCESSES, encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "two.py"], cwd=folder, env=environment, timeout=840,
            capture_output=True, text=True,
        ).stderr  # fmt: skip
    except subprocess.TimeoutExpired as stuck:
        done = (stuck.stderr or b"").decode()
    return done, folder / "runs"


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first waits for all
@pytest.mark.parametrize("recipe", ONE_OF_EACH)
def test_a_recipe_runs_on_two_processes(recipe, of_two_processes, helpers):
    served(recipe, helpers).exempt("two processes")
    said, runs = of_two_processes
    for rank in (0, 1):
        assert f"recipe {recipe} rank {rank} code 0" in said, said[-3000:]
    (figures,) = (runs / recipe).glob("*/*/metrics.json")
    values = json.loads(figures.read_text(encoding="utf-8"))["metrics"]
    assert set(served(recipe, helpers).losses) <= values.keys()
    assert all(math.isfinite(value) for value in values.values())
