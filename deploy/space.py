"""Uploads the app to a Hugging Face Space: `make space SPACE=USER/NAME`.

Uploads the app's files of the current commit, without tests, training and benchmarks, and creates the
Space if it does not exist. Needs a login (`hf auth login`, or a token in $HF_TOKEN).
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

import httpx
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "LICENSE", "app.py", "examples.json", "requirements.txt")
FOLDERS = ("i4vgen", "assets")
"""Files and folders of the app. The front matter of the README configures the Space."""


class NotReadyError(Exception):
    """A requirement of the upload is missing; the message names it."""


def upload(space: str) -> str:
    """Uploads the current commit's app to a Space. Returns the Space's address."""
    if changes := git("status", "--porcelain").decode().splitlines():
        listed = "\n".join(changes[:10] + ["..."] * (len(changes) > 10))
        raise NotReadyError(f"the work tree has changes; commit or stash them first:\n{listed}")
    if not (token := huggingface_hub.get_token()):
        raise NotReadyError("not logged in: run `hf auth login`, or set HF_TOKEN to a token that may write")
    commit = git("rev-parse", "--short=12", "HEAD").decode().strip()
    api = huggingface_hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder))
        api.create_repo(space, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.upload_folder(
            repo_id=space,
            repo_type="space",
            folder_path=folder,
            commit_message=f"Deploy {commit}",
            delete_patterns=[f"{name}/*" for name in FOLDERS],  # files that this commit no longer has
        )
    return f"{api.endpoint}/spaces/{space}"


def export(folder: Path) -> None:
    """Writes the app's files of the current commit into a folder."""
    with ZipFile(io.BytesIO(git("archive", "--format", "zip", "HEAD", *FILES, *FOLDERS))) as archive:
        archive.extractall(folder)


def git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise NotReadyError(done.stderr.decode().strip())
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.space", description="Upload the app to a Space.")
    parser.add_argument("space", metavar="USER/NAME", help="the Space on Hugging Face")
    try:
        print(upload(parser.parse_args().space))
    except (NotReadyError, HfHubHTTPError, HFValidationError) as error:
        sys.exit(f"error: {error}")
    except httpx.TransportError as error:
        sys.exit(f"error: the hub cannot be reached ({error})")


if __name__ == "__main__":
    main()
