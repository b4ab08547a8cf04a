import io
import pickle
import random
import sys
from pathlib import Path

import pytest
import torch

from dlarch.compat.checkpoint_io import (
    AtomicCheckpointIO,
    load_checkpoint,
    require_dlarch,
    save_checkpoint,
)
from dlarch.errors import CheckpointError, RunError

CHECKPOINT = {"state_dict": {"w": torch.arange(3000.0)}, "dlarch": {"format": 1}, "step": 3}


class Spy:
    """Leaves a trace when it is unpickled by the rules of plain pickle."""

    def __reduce__(self):
        return print, ("this code must not run",)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    save_checkpoint(CHECKPOINT, path)
    return path


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_is_saved_is_loaded_and_nothing_else_is_left(path):
    AtomicCheckpointIO().save_checkpoint({**CHECKPOINT, "step": 4}, path)
    loaded = AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert loaded["step"] == 4
    assert torch.equal(loaded["state_dict"]["w"], CHECKPOINT["state_dict"]["w"])
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_save_keeps_the_old_file(path, monkeypatch, error):
    before = path.read_bytes()

    def write_half(checkpoint, file):
        file.write(b"PK half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(error):
        save_checkpoint(CHECKPOINT, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(path):
    import resource

    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    big = {"state_dict": {"w": torch.zeros(100_000)}}
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(
            RunError, match=r"last.ckpt cannot be written \(File too large\)"
        ) as got:
            save_checkpoint(big, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(got.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_folder_that_cannot_be_made_is_one_sentence(path):
    with pytest.raises(RunError, match="cannot be written"):
        save_checkpoint(CHECKPOINT, path / "below_a_file" / "last.ckpt")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n", b"{}", bytes(5000)])
def test_what_is_no_checkpoint_is_refused(path, content):
    path.write_bytes(content)
    assert "is no PyTorch checkpoint" in refusal(path)


def test_a_file_with_something_else_than_a_dictionary_is_refused(path):
    torch.save(torch.zeros(3), path)
    assert "holds a Tensor" in refusal(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_pickled_code_is_refused_and_not_run(path, form, capsys):
    content = {"state_dict": {}, "spy": Spy()}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    assert "would run code" in refusal(path)
    with pytest.raises(CheckpointError):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert capsys.readouterr().out == ""
    pickle.loads(pickle.dumps(Spy()))
    assert "must not run" in capsys.readouterr().out  # the spy does notice


class ScriptedSpy(torch.nn.Module):
    """Writes a file when it is loaded by the rules of TorchScript."""

    def __init__(self, trace: str) -> None:
        super().__init__()
        self.trace = trace

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.trace, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.trace, self.training = state
        torch.save(torch.zeros(1), state[0])

    def forward(self) -> str:
        return self.trace


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="TorchScript has ended")
def test_scripted_code_is_refused_and_not_run(path, tmp_path):
    trace = tmp_path / "trace"
    torch.jit.save(torch.jit.script(ScriptedSpy(str(trace))), path)
    refusal(path)
    assert not trace.exists()
    torch.jit.load(path)
    assert trace.exists()  # the spy does notice


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "no checkpoint file" in refusal(tmp_path / "nowhere.ckpt")
    assert "no checkpoint file" in refusal(tmp_path)


def test_mutated_bytes_never_lead_to_another_error(path):
    whole, dice, messages = path.read_bytes(), random.Random(0), []
    for _ in range(200):
        mutated = bytearray(whole)
        for _ in range(dice.choice((1, 4, 64))):
            mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        path.write_bytes(mutated)
        try:
            require_dlarch(load_checkpoint(path), path)
        except CheckpointError as error:
            messages.append(str(error))
    assert "\n" not in "".join(messages)
    assert len(messages) > 50


def test_foreign_and_newer_checkpoints_are_refused_by_require_dlarch():
    require_dlarch(CHECKPOINT, "x.ckpt")
    for foreign in ({}, {"state_dict": {}}, {"state_dict": {}, "dlarch": 1}):
        with pytest.raises(CheckpointError, match=r"x.ckpt was not written by dlarch"):
            require_dlarch(foreign, "x.ckpt")
    with pytest.raises(CheckpointError, match="format 2 and this dlarch reads up to 1"):
        require_dlarch({**CHECKPOINT, "dlarch": {"format": 2}}, Path("x.ckpt"))


def test_torch_writes_to_a_file_object_as_to_a_path(path):
    buffer = io.BytesIO()
    torch.save(CHECKPOINT, buffer)
    assert abs(len(buffer.getvalue()) - path.stat().st_size) < 1000
