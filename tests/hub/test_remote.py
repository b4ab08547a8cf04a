"""One process talks to a local Hub through HF_ENDPOINT, as a user's would; nothing is replaced."""

import json
import os
import subprocess
import sys

import pytest

CLIENT = """
import json, os, time, urllib.request
import torch
from dlarch.errors import UserError
from dlarch.hub import AutoModel, load_processor_of, load_spec, push_to_hub, remote
from safetensors.torch import load_file

told = {}

def tell(name, call):
    start = time.monotonic()
    try:
        value = call()
    except UserError as error:
        value = type(error).__name__ + ": " + str(error)
    told[name] = [value, time.monotonic() - start]

def control(mode):
    urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/control/" + mode, data=b"").read()

def translations(model):
    return model.translate(["le chat noir", "deux"], beam=2, max_length=6)

model = AutoModel.from_pretrained(os.environ["MODEL"])
right = {"token": "hf_right"}
tell("push", lambda: push_to_hub(model, "me/dates", commit_message="First", license="mit", **right))
tell("push private", lambda: model.push_to_hub("me/secret", private=True, **right))
tell("push unauthorized", lambda: model.push_to_hub("me/new", token="hf_wrong"))
tell("push to another's", lambda: model.push_to_hub("me/dates", token="hf_wrong"))
tell("processor", lambda: load_processor_of("me/dates") == model.processor)
tell("spec", lambda: load_spec("me/dates").facts())
tell("pull", lambda: translations(AutoModel.from_pretrained("me/dates")))
tell("equal", lambda: translations(model))
tell("pull private", lambda: AutoModel.from_pretrained("me/secret"))
tell("pull nothing", lambda: AutoModel.from_pretrained("me/nothing"))
tell("pull no revision", lambda: AutoModel.from_pretrained("me/dates", revision="v9"))
tell("pull foreign", lambda: AutoModel.from_pretrained("you/bert"))
os.makedirs("me/dates")
tell("local wins", lambda: AutoModel.from_pretrained("me/dates"))
os.removedirs("me/dates")

remote.NETWORK_SECONDS = 0.5
control("hang")
tell("hanging", lambda: AutoModel.from_pretrained("me/other"))
tell("hanging push", lambda: model.push_to_hub("me/dates", **right))
tell("hanging, cached", lambda: translations(AutoModel.from_pretrained("me/dates")))
control("stop")
time.sleep(0.3)
remote.NETWORK_SECONDS = 10
tell("refused", lambda: AutoModel.from_pretrained("me/other"))
tell("refused push", lambda: model.push_to_hub("me/dates", **right))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(hub_server, make_model, tmp_path_factory):
    """What the client printed: a value or an error, and the seconds it took, by name."""
    folder = tmp_path_factory.mktemp("client")
    make_model().save_pretrained(folder / "model", metrics={"test/bleu": 12.5})
    hub_server.repos["you/bert"] = {"config.json": b'{"architectures": ["BertModel"]}'}
    outside = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    outside.pop("HF_TOKEN", None)
    environment = {
        "HF_ENDPOINT": hub_server.url,
        "HF_HOME": str(folder / "cache"),
        "MODEL": str(folder / "model"),
    }
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        env=outside | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_pushed_model_comes_back_the_same(told):
    assert told["pull"][0] == told["equal"][0]
    assert len(told["pull"][0]) == 2
    assert told["processor"][0] is True
    assert told["spec"][0] == {"source_vocab_size": 19, "target_vocab_size": 18}


def test_one_commit_holds_all_files(told, hub_server):
    first = hub_server.commits[0]
    assert told["push"][0].startswith(f"{hub_server.url}/me/dates/commit/")
    assert first[0] == {"key": "header", "value": {"summary": "First", "description": ""}}
    assert {line["value"]["path"] for line in first[1:]} == {
        "README.md", "config.json", "model.safetensors", "processor.json",
        "source/tokenizer.json", "target/tokenizer.json",
    }  # fmt: skip


def test_the_card_on_the_hub_names_the_repository(told, hub_server):
    card = hub_server.repos["me/dates"]["README.md"].decode()
    assert "license: mit" in card
    assert 'AutoModel.from_pretrained("me/dates")' in card
    assert "| test/bleu | 12.5 |" in card


def test_only_what_is_needed_is_downloaded(told, hub_server):
    fetched = [call.rpartition("/")[2] for call in hub_server.calls if call.startswith("GET /me/")]
    assert fetched.count("model.safetensors") == 1  # not for the processor and the spec
    assert "README.md" not in fetched


def test_private_is_passed_on_and_strangers_are_told_to_log_in(told, hub_server):
    assert hub_server.private == {"me/secret"}
    for name in ("push unauthorized", "push to another's", "pull private"):
        assert told[name][0].startswith("CheckpointError: ")
        assert "hf auth login" in told[name][0]
    assert "me/new" not in hub_server.repos


def test_what_is_not_there_is_said_in_one_line(told):
    assert "There is no 'me/nothing' here, nor on the Hub" in told["pull nothing"][0]
    assert "'me/dates' on the Hub has no revision 'v9'" in told["pull no revision"][0]
    assert "was not written by dlarch" in told["pull foreign"][0]
    assert "neither a pretrained folder" in told["local wins"][0]
    assert not any("\n" in str(value) for value, _ in told.values())


@pytest.mark.parametrize("name", ["hanging", "hanging push", "refused", "refused push"])
def test_without_a_network_the_answer_comes_at_once(told, name):
    value, seconds = told[name]
    assert value.startswith("CheckpointError: The Hub cannot be reached for 'me/")
    assert seconds < 5  # the limit is 0.5 s here


def test_without_a_network_the_copy_in_the_cache_is_used(told):
    assert told["hanging, cached"][0] == told["equal"][0]
