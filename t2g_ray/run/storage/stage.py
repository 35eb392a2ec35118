"""A run at a URL <-> the local folder that it works in, its stage.

The URL has the truth: a start empties the stage and fetches what is there, so any machine can go on
with a run. Invariant: at every moment the newest complete checkpoint at the URL has all of its
files, and the lines of metrics and samples up to its step are there too, because those are uploaded
before it and its marker last.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from t2g_ray.run.checkpoint import (
    AGAIN,
    MANIFEST,
    MARKER,
    STATE,
    CheckpointError,
    Share,
    flaw_of,
    seal,
    step_of,
)
from t2g_ray.run.folder import LOCK, STAGE, RunDir, checkpoint_name, write_text
from t2g_ray.run.resume.start import tell
from t2g_ray.run.storage.remote import Remote, StorageError


class Stage:
    """The stage of one run."""

    def __init__(self, url: str, run: RunDir) -> None:
        self._run, self._remote = run, Remote(url)
        self._there: dict[str, tuple[int, int]] = {}
        """Size and time of change of the files that are at the URL as they are here."""

    @property
    def token(self) -> str:
        """Tells a stage that was filled for one start from others, also on other nodes."""
        return self._mark()[1]

    def open(self, *, resume: bool) -> None:
        """Make the stage what is at the URL: nothing, or the files of a run and its newest whole
        checkpoint.

        Raises ValueError for a URL that holds something else, or a run that is not to be resumed;
        for a folder that is no stage; CheckpointError where all checkpoints are damaged.
        """
        found = {n: size for n, size in self._remote.names().items() if not n.startswith(".")}
        config = self._run.config.name
        if found and config not in found:
            raise ValueError(
                f"the storage of a run must be empty or hold a run ({config}), found "
                f"{', '.join(sorted(found)[:5])} at {self._remote.url}; give another URL"
            )
        if found and not resume:
            raise ValueError(
                f"the storage of a new run must be empty, found a run at {self._remote.url}; give "
                "another URL, or resume=auto to continue it"
            )
        self._empty(secrets.token_hex(8))
        self._fetch(name for name in found if _is_of_the_run(name))
        self._fetch_newest(found)

    def follow(self, token: str, checkpoint: str) -> None:
        """On another node: have what the driver's stage had after its `open`, and the checkpoint of
        this name, if any. Where both nodes see one folder there is nothing to do."""
        if self.token != token:
            self._empty(token)
            self.fetch()
        if checkpoint and not (self._run.checkpoints / checkpoint).exists():
            names = self._remote.names(self._run.checkpoints.name)
            steps = dict(self._complete(names))
            self._fetch_checkpoint(steps[step_of(checkpoint) or 0], names)

    def push(self, under: str = "") -> None:
        """Upload the files of the run, or of one folder of it, that changed; report.json, which
        says that it is finished, after all others."""
        changed: dict[str, Path] = {}
        states: dict[str, tuple[int, int]] = {}
        for path in (self._run.path / under).rglob("*"):
            name = path.relative_to(self._run.path).as_posix()
            if not (_is_of_the_run(name) and path.is_file()):
                continue
            now = _state(path)
            if self._there.get(name) != now:
                changed[name], states[name] = path, now
        report = changed.pop(self._run.report_json.name, None)
        try:
            self._remote.put_all(changed)
            if report is not None:
                self._remote.put_all({self._run.report_json.name: report})
        except StorageError as error:
            error.add_note(f"all files of the run are in {self._run.path} of this node")
            raise
        self._there |= states

    def fetch(self, under: str = "") -> None:
        """Download the files of the run, or of one folder of it, that another node pushed."""
        self._fetch(name for name in self._remote.names(under) if _is_of_the_run(name))

    def remove_all(self) -> None:
        """Leave the URL as empty as a new run found it."""
        self._remote.remove(_marker_first(self._remote.names()))

    def begin(self, step: int) -> str:
        """The folder at the URL for a checkpoint of this step, emptied; a complete one stays."""
        base = f"{self._run.checkpoints.name}/{checkpoint_name(step)}"
        found = self._remote.names(self._run.checkpoints.name)
        target = base + AGAIN if f"{base}/{MARKER}" in found else base
        self._remove(target, found)
        return target

    def put(self, target: str, temporary: Path, share: Share) -> None:
        """Move what a rank of this node wrote into the temporary folder of a checkpoint."""
        try:
            self._remote.put_all({f"{target}/{f.name}": temporary / f.name for f in share.files})
        except StorageError as error:
            error.add_note(
                f"the files of {share.writer} are kept in {temporary} of that node until the run "
                f"is started again; resume=auto goes on from the newest complete checkpoint at "
                f"{self._remote.url}"
            )
            raise
        for file in share.files:
            (temporary / file.name).unlink()

    def complete(
        self,
        target: str,
        temporary: Path,
        state: Mapping[str, Any],
        here: Sequence[Share],
        elsewhere: Sequence[Share],
    ) -> None:
        """Upload the files of the run and the shares that lie in `temporary`, see that all files
        are there with their sizes, write the marker and remove `temporary`. `elsewhere` were
        uploaded by their nodes.

        Raises StorageError, and leaves every earlier checkpoint, where something is missing.
        """
        self.push()
        seal(temporary, state, here, elsewhere)
        for share in here:
            self.put(target, temporary, share)
        self._remote.put_all({f"{target}/{name}": temporary / name for name in (STATE, MANIFEST)})
        found = self._remote.names(target)
        for share in (*here, *elsewhere):
            for file in share.files:
                if found.get(f"{target}/{file.name}") != file.num_bytes:
                    raise StorageError(
                        f"a checkpoint must hold what every rank wrote, found {file.name} of "
                        f"{share.writer} with {found.get(f'{target}/{file.name}', 'no')} of its "
                        f"{file.num_bytes} bytes at {self._remote.url}/{target}; its own is in "
                        f"{temporary} of that node"
                    )
        self._remote.write(f"{target}/{MARKER}", (temporary / MARKER).read_bytes())
        base = target.removesuffix(AGAIN)
        found = self._remote.names(self._run.checkpoints.name)
        self._remove(base if target != base else base + AGAIN, found)
        shutil.rmtree(temporary)

    def keep_last(self, num_kept: int) -> None:
        """Remove all but the newest `num_kept` checkpoints, and what was never completed."""
        found = self._remote.names(self._run.checkpoints.name)
        kept = {folder for _, folder in self._complete(found)[-num_kept:]}
        for folder in sorted({"/".join(name.split("/")[:2]) for name in found} - kept):
            self._remove(folder, found)

    def discard_after(self, step: int) -> None:
        """Remove checkpoints of later steps, which a run that resumes at `step` takes again."""
        found = self._remote.names(self._run.checkpoints.name)
        for later, folder in self._complete(found):
            if later > step:
                self._remove(folder, found)

    def _empty(self, token: str) -> None:
        folder = self._run.path
        folder.mkdir(parents=True, exist_ok=True)
        found = [path for path in folder.iterdir() if path.name not in (LOCK, STAGE)]
        if found and self._mark()[0] != self._remote.url:
            raise ValueError(
                f"run_dir must be empty or the stage of {self._remote.url}, found "
                f"{', '.join(sorted(path.name for path in found)[:5])} in {folder}; give another "
                "run_dir, or leave it out and give the URL in its place"
            )
        write_text(folder / STAGE, f"{self._remote.url} {token}")
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _mark(self) -> tuple[str, str]:
        """URL and token of the stage that the folder is; empty where it is none."""
        path = self._run.path / STAGE
        # A URL may have spaces, a token has none.
        url, _, token = (path.read_text("utf-8") if path.is_file() else "").rpartition(" ")
        return url, token

    def _fetch(self, names: Iterable[str]) -> None:
        files = {name: self._run.path / name for name in names}
        self._remote.get_all(files)
        self._there |= {name: _state(path) for name, path in files.items()}

    def _fetch_newest(self, found: Mapping[str, int]) -> None:
        rejected: list[str] = []
        for _, folder in reversed(self._complete(found)):
            try:
                self._fetch_checkpoint(folder, found)
                break
            except CheckpointError as error:
                rejected.append(str(error))
        else:
            if rejected:
                raise CheckpointError(
                    f"{self._remote.url} must hold a whole checkpoint to resume from, found "
                    f"{'; '.join(rejected)}. Restore one, or give another URL to start from step 0"
                )
        for reason in rejected:
            tell(f"left out: {reason}")

    def _fetch_checkpoint(self, folder: str, found: Mapping[str, int]) -> None:
        """Download a checkpoint and compare its digests. Raises CheckpointError."""
        local = self._run.path / folder.removesuffix(AGAIN)
        temporary = local.with_name(f".{local.name}.fetched")
        shutil.rmtree(temporary, ignore_errors=True)
        names = [name for name in found if name.startswith(f"{folder}/")]
        self._remote.get_all({n: temporary / n.removeprefix(f"{folder}/") for n in names})
        if flaw := flaw_of(temporary):
            shutil.rmtree(temporary)
            raise CheckpointError(f"{folder} is not whole: {flaw}")
        temporary.rename(local)

    def _complete(self, found: Mapping[str, int]) -> list[tuple[int, str]]:
        """Steps and folders of the complete checkpoints among these names, oldest first."""
        folders = [name.rpartition("/")[0] for name in found if name.endswith(f"/{MARKER}")]
        steps = [(step_of(folder.rpartition("/")[2]), folder) for folder in folders]
        return sorted((step, folder) for step, folder in steps if step is not None)

    def _remove(self, folder: str, found: Mapping[str, int]) -> None:
        self._remote.remove(_marker_first(n for n in found if n.startswith(f"{folder}/")))


def _is_of_the_run(name: str) -> bool:
    """Whether a file belongs to the run itself: to no checkpoint, and to nothing half done."""
    parts = name.split("/")
    return parts[0] != "checkpoints" and not any(part.startswith(".") for part in parts)


def _state(path: Path) -> tuple[int, int]:
    now = path.stat()
    return now.st_size, now.st_mtime_ns


def _marker_first(names: Iterable[str]) -> list[str]:
    """The order in which a checkpoint is removed: killed in between, it is gone and not damaged."""
    return sorted(names, key=lambda name: (not name.endswith(f"/{MARKER}"), name))
