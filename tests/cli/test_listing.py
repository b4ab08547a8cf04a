"""The verbs that answer at once: --help, --version, list, info, recipes, doctor."""

import io
import logging
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

import dlarch
from dlarch import recipes, registry
from dlarch.cli import doctor
from dlarch.cli import main as cli
from dlarch.cli.main import main
from dlarch.errors import DataError

LIGHT = (
    ["--help"],
    ["--version"],
    ["list"],
    ["info", "seq2seq_attn"],
    ["recipes"],
    ["doctor"],
    ["results", "--help"],
)


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """One shipped recipe, and an empty working directory."""
    (tmp_path / "shipped" / "sweeps").mkdir(parents=True)
    path = tmp_path / "shipped" / "sweeps" / "small.yaml"
    path.write_text("# Small and quick.\nmodel: seq2seq_attn\ndata: translation\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(recipes, "recipes_folder", lambda: tmp_path / "shipped")
    return path


def answer(capsys, *words: str) -> str:
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refusal(capsys, *words: str) -> str:
    """The one line on stderr of a command that must exit with 2 and print nothing."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dlarch: error: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("dlarch: error: ").rstrip()


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_light_verb_answers_in_half_a_second_without_torch(words):
    # The interpreter and the imports count: each measurement is a process of its own.
    times = []
    for _ in range(5):
        start = perf_counter()
        done = subprocess.run([sys.executable, "-m", "dlarch", *words], capture_output=True)
        times.append(perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert min(times) < 0.5  # other processes only add to it
    code = (
        f"import sys; from dlarch.cli.main import main; main({words!r}); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'lightning', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_each_verb_and_is_what_no_verb_prints(capsys):
    text = answer(capsys, "--help")
    assert text == answer(capsys) == answer(capsys, "-h")
    lines = text.splitlines()
    assert all(any(line.startswith(f"  {verb} ") for line in lines) for verb in cli.VERBS)


def test_version_is_that_of_the_package(capsys):
    assert answer(capsys, "--version") == f"dlarch {dlarch.__version__}\n"


def test_unknown_verb_names_the_nearest(capsys):
    assert refusal(capsys, "trian").startswith("There is no verb 'trian'.")
    assert "Did you mean 'recipes'" in refusal(capsys, "recipe")


def test_list_prints_models_then_data_then_baselines_one_per_line(capsys):
    lines = answer(capsys, "list").splitlines()
    names = [line.split()[0] for line in lines]
    baselines = registry.list_baselines()
    assert names == [*registry.list_models(), *registry.list_data(), *baselines]
    said = [line.split(None, 1)[1] for line in lines[-len(baselines) :]]
    assert said == [f"Baseline: {registry.baseline_info(name).summary}" for name in baselines]
    summary = registry.model_info("seq2seq_attn").summary
    assert lines[names.index("seq2seq_attn")].split(None, 1)[1] == summary


def test_list_filters(capsys):
    found = answer(capsys, "list", "*SEQ2SEQ_A*", "--task", "translation")
    assert found.startswith("seq2seq_attn ")
    assert answer(capsys, "list", "pca*").startswith("pca_knn  Baseline: Vote of")
    assert "Did you mean 'pca_knn'" in refusal(capsys, "list", "pca_nkn")
    only = [line.split()[0] for line in answer(capsys, "list", "--family", "seq2seq").splitlines()]
    assert only == registry.list_models(family="seq2seq")
    assert "Did you mean 'seq2seq_attn'" in refusal(capsys, "list", "seq2seq_atn")
    assert "Did you mean 'Translation'" in refusal(capsys, "list", "--task=translatoin")
    assert "no option '--tsk'. Did you mean '--task'" in refusal(capsys, "list", "--tsk", "x")
    assert "no option '--fam'" in refusal(capsys, "list", "--fam", "seq2seq")  # no abbreviation


def test_info_tells_paper_task_recipes_and_docstring(capsys, shipped):
    text = answer(capsys, "info", "seq2seq_attn")
    facts = dict(line.split(None, 1) for line in text.partition("\n\n")[0].splitlines())
    assert facts == {
        "model": "seq2seq_attn",
        "paper": "https://arxiv.org/abs/1409.0473",
        "task": "Translation",
        "family": "seq2seq",
        "class": "dlarch.models.seq2seq.seq2seq_attn.Seq2SeqAttn",
        "recipes": "sweeps/small",
    }
    assert registry.model_info("seq2seq_attn").docstring in text


def test_info_of_data(capsys, shipped):
    assert "recipes  sweeps/small" in answer(capsys, "info", "translation")
    assert "has no layers" in refusal(capsys, "info", "translation", "--layers")


def test_info_refuses_with_the_nearest_name(capsys):
    assert "Did you mean 'seq2seq_attn'" in refusal(capsys, "info", "seq2seq_atn")
    assert "no option '--layer'" in refusal(capsys, "info", "seq2seq_attn", "--layer")


def test_layers_of_sizes_512_have_the_published_number_of_parameters(capsys):
    # Printed by bentrevett/pytorch-seq2seq, "4 - Packed Padded Sequences, Masking, Inference and
    # BLEU.ipynb", for the vocabularies of Multi30k.
    sizes = "--source_vocab_size 7853 --target_vocab_size=5893 --embedding_size 256"
    sizes += " --encoder_size 512 --hidden-size 512"
    text = answer(capsys, "info", "seq2seq_attn", "--layers", *sizes.split())
    lines = text.splitlines()
    assert lines[-1] == "20,518,405 parameters, 20,518,405 of them trainable"
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("layer ")) + 1 : -2]
    assert sum(int(line.split()[2].replace(",", "")) for line in table) == 20_518_405
    assert any("weight (7853, 256)" in line for line in table)


def test_layers_without_facts_are_those_of_the_example(capsys):
    text = answer(capsys, "info", "seq2seq_attn", "--layers", "--embedding_size", "6")
    assert "(11, 6)" in text
    assert "(13, 6)" in text


def test_layers_refuse_what_cannot_be_built(capsys):
    def refuse(*words):
        return refusal(capsys, "info", "seq2seq_attn", "--layers", *words)

    assert "Did you mean 'hidden_size'" in refuse("--hiden_size", "4")
    assert "'--hidden_size' needs a value" in refuse("--hidden_size")
    assert "'4' is not an option" in refuse("4")
    assert "cannot be built like this" in refuse("--hidden_size", "four")


def test_shared_and_frozen_parameters_are_counted_once_and_named():
    from torch import nn

    from dlarch.cli.layers import layer_rows

    model = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2, bias=False)})
    model["b"].weight = model["a"].weight
    model["a"].bias.requires_grad_(False)
    assert layer_rows(model) == [
        ("a", "Linear", "8", "6", "weight (2, 3), bias (2,)"),
        ("b", "Linear", "0", "yes", "weight is a.weight"),
    ]


def test_recipes_are_listed_shown_and_copied(capsys, shipped):
    header, line = answer(capsys, "recipes").splitlines()
    assert header.split() == ["recipe", "model", "data", "summary"]
    assert line.split(None, 3) == [
        "sweeps/small",
        "seq2seq_attn",
        "translation",
        "Small and quick.",
    ]
    assert answer(capsys, "recipes", "list").splitlines() == [header, line]
    assert answer(capsys, "recipes", "show", "sweeps/small") == shipped.read_text()
    assert answer(capsys, "recipes", "copy", "sweeps/small") == "small.yaml\n"
    assert Path("small.yaml").read_text() == shipped.read_text()


def test_copy_overwrites_only_by_force(capsys, shipped):
    Path("small.yaml").write_text("mine")
    assert "exists already" in refusal(capsys, "recipes", "copy", "sweeps/small")
    assert Path("small.yaml").read_text() == "mine"
    answer(capsys, "recipes", "copy", "sweeps/small", "new/name.yaml")
    assert Path("new/name.yaml").read_text() == shipped.read_text()
    answer(capsys, "recipes", "copy", "sweeps/small", "--force")
    assert Path("small.yaml").read_text() == shipped.read_text()


def test_recipes_refuse_unknown_words(capsys, shipped):
    assert "Did you mean 'show'" in refusal(capsys, "recipes", "shw")
    assert "Did you mean 'sweeps/small'" in refusal(capsys, "recipes", "show", "sweeps/smal")
    assert "arguments are required: name" in refusal(capsys, "recipes", "show")


def test_doctor_tells_versions_and_environment(capsys, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", "/somewhere")
    monkeypatch.delenv("DLARCH_DATA", raising=False)
    text = answer(capsys, "doctor")
    rows = dict(line.split(None, 1) for line in text.splitlines() if "  " in line)
    assert rows["python"].startswith(sys.version.split()[0])
    assert rows["DLARCH_RUNS"].split()[0] == "/somewhere"
    assert rows["DLARCH_DATA"].startswith("(not set)")
    assert {"torch", "lightning", "DLARCH_CACHE", "DLARCH_DEBUG", "DLARCH_LOG"} <= set(rows)


def test_doctor_reports_versions_out_of_range_and_broken_plugins(capsys, monkeypatch):
    installed = {"torch": "2.2.0+cpu", "lightning": "2.6.2", "rich": None}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: installed.get(name, real(name)))
    monkeypatch.setattr(registry, "broken_plugins", lambda: ["Skipped 'x'."])
    assert main(["doctor"]) == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if "problem: " in line]
    text = "\n".join(problems)
    assert "dlarch needs torch>=2.3, but 2.2.0+cpu is installed" in text
    assert "but 2.6.2 is installed" in text  # a release known to be malicious
    assert "rich>=13.7, which is not installed" in text
    assert "problem: Skipped 'x'." in text


# ---- what main does for every verb


@pytest.fixture
def verb(monkeypatch):
    """Make `dlarch list` do something else."""

    def install(function):
        monkeypatch.setattr("dlarch.cli.listing.run_list", function)

    return install


def raising(error):
    def run(argv):
        raise error

    return run


def test_error_is_one_line_and_a_traceback_only_when_debugging(capsys, monkeypatch, verb):
    verb(raising(DataError("line one\n  line two")))
    assert refusal(capsys, "list") == "line one line two"
    monkeypatch.setenv("DLARCH_DEBUG", "1")
    with pytest.raises(DataError):
        main(["list"])


def test_exit_codes(capsys, verb):
    for error, code in [
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device"), 2),
        (SystemExit(143), 143),
        (SystemExit(), 0),
    ]:
        verb(raising(error))
        assert main(["list"]) == code
    assert "No space left" in capsys.readouterr().err


def test_closed_pipe_is_quiet():
    code = (
        "import sys; from dlarch.cli import listing, main\n"
        "listing.run_list = lambda argv: [print('x' * 99) for _ in range(9999)] and 0\n"
        "sys.exit(main.main(['list']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1


def test_working_directory_is_searched_last(monkeypatch, tmp_path, verb):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_own_model.py").write_text("VALUE = 5")
    (tmp_path / "json.py").write_text("VALUE = 6")
    verb(lambda argv: __import__("my_own_model").VALUE)
    assert main(["list"]) == 5
    assert sys.path[-1] == str(tmp_path)


def test_log_goes_to_stderr_once_at_the_level_asked_for(capsys, monkeypatch, verb):
    logger = logging.getLogger("dlarch.somewhere")

    def run(argv):
        logger.debug("a")
        logger.info("b")
        return 0

    verb(run)
    for level, printed in [("", "b\n"), ("debug", "a\nb\n"), ("WARNING", "")]:
        monkeypatch.setenv("DLARCH_LOG", level)
        assert main(["list"]) == 0
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", printed)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("DLARCH_LOG", "INFO")
    main(["list"])
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("DLARCH_LOG", "INOF")
    assert "Did you mean 'INFO'" in refusal(capsys, "list")


def test_text_that_the_terminal_lacks_is_replaced(monkeypatch, verb):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    from dlarch.cli.options import print_table

    print_table([("a", "ä±")])
    ascii_only.flush()
    assert ascii_only.buffer.getvalue().split() == [b"a", b"??"]


def test_plugin_is_listed_by_the_command(plugin):
    plugin(models={"echo_linear": "dlarch_echo.model:EchoLinear", "bad": "nowhere:Bad"})
    done = subprocess.run([sys.executable, "-m", "dlarch", "list"], capture_output=True, text=True)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"echo_linear", "echo", "seq2seq_attn"} <= set(names)
    assert done.stderr == (
        "Skipped 'bad' of the package dlarch-echo: there is no module 'nowhere'.\n"
    )


def test_info_knows_baselines_too(capsys):
    assert main(["info", "svc"]) == 0
    assert "Support vector machine" in capsys.readouterr().out
    assert main(["info", "svc", "--layers"]) == 2
    assert "no model" in capsys.readouterr().err
