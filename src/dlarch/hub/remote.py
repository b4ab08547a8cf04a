"""The Hugging Face Hub: what is downloaded and uploaded, and what is said when it fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from dlarch.errors import CheckpointError

logger = logging.getLogger(__name__)

NETWORK_SECONDS = 10.0
"""How long the Hub may take to answer at first."""

T = TypeVar("T")


def is_hub_id(text: str) -> bool:
    """Whether `text` looks like "user/model"."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None and not text.endswith(".ckpt")


def download(repo_id: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """A folder with those files of a repository that match `files`; from the cache if need be.

    Raises:
        CheckpointError: there is no such repository, or no way to it and no copy.
    """
    from huggingface_hub import HfApi, snapshot_download

    options: dict[str, Any] = {"revision": revision, "allow_patterns": list(files)}
    try:
        in_time(lambda: HfApi().model_info(repo_id, revision=revision, timeout=NETWORK_SECONDS))
        return Path(snapshot_download(repo_id, **options))
    except Exception as error:  # of requests, httpx or httpx2, by the library's version
        try:
            folder = Path(snapshot_download(repo_id, local_files_only=True, **options))
        except Exception:
            raise _explained(repo_id, revision, error) from error
        logger.warning("The Hub does not give '%s' now; the copy in its cache is used.", repo_id)
        return folder


def upload(
    folder: Path, repo_id: str, private: bool, commit_message: str, token: str | None
) -> str:
    """Upload a folder to a repository, which is made if needed; returns the commit's address.

    Raises:
        CheckpointError: the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        in_time(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message=commit_message
        )
    except Exception as error:  # of requests, httpx or httpx2, by the library's version
        raise _explained(repo_id, None, error, writing=True) from error
    return str(commit.commit_url)


def in_time(call: Callable[[], T]) -> T:
    """What `call` returns; a TimeoutError if it takes longer than NETWORK_SECONDS.

    The library sets no time limit for most requests, and nothing limits the look-up of a name.
    """
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=work, daemon=True).start()
    return result.result(timeout=NETWORK_SECONDS)


def _explained(
    repo_id: str, revision: str | None, error: Exception, writing: bool = False
) -> CheckpointError:
    from huggingface_hub import errors

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"'{repo_id}' on the Hub has no revision '{revision}'.")
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(f"'{repo_id}' is gated: ask for access on its page and {log_in}.")
    if isinstance(error, errors.RepositoryNotFoundError) and not writing:
        return CheckpointError(
            f"There is no '{repo_id}' here, nor on the Hub for you to see; if it is private, "
            f"{log_in}."
        )
    if status in (401, 403) or isinstance(error, errors.LocalTokenNotFoundError):
        return CheckpointError(f"The Hub refuses access to '{repo_id}': {log_in}.")
    if isinstance(error, ValueError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return CheckpointError(f"The Hub does not take '{repo_id}': {' '.join(str(error).split())}")
    if isinstance(error, OSError) and error.filename:
        return CheckpointError(f"'{repo_id}' is not downloaded: {error}.")
    if status is not None:
        return CheckpointError(f"The Hub answered with error {status} for '{repo_id}'.")
    return CheckpointError(
        f"The Hub cannot be reached for '{repo_id}' ({type(error).__name__}): check the network, "
        "or use a folder on this machine."
    )
