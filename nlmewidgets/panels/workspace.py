"""A file that follows an explorer, so that a kernel may die and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.exclusions import replay, steps
from nlmewidgets.core.model import Model
from nlmewidgets.fit import Fit, Run
from nlmewidgets.fit.store import (
    data_from_dict,
    data_to_dict,
    fit_from_dict,
    fit_to_dict,
    model_from_dict,
    model_to_dict,
    to_json,
)
from nlmewidgets.panels.session import SETTINGS, checked, restore, state_of

__all__ = ["Workspace", "default_path", "model_and_data"]

FORMAT = 1
EVERY = 2.0
"""Seconds between two writings, at least."""

_SHARE = 9.0
"""Time between two writings, in units of what one takes: a large workspace must not slow down the rest."""

_WATCHED = (*SETTINGS, "fits", "status")

_open: dict[Path, weakref.ref[Workspace]] = {}
"""Which workspace follows which file: the newest one does."""


def default_path() -> Path:
    """Return the file beside the notebook, named after it where the front end tells its name."""
    session = Path(os.environ.get("JPY_SESSION_NAME", ""))
    stem = session.stem if session.suffix == ".ipynb" else "nlmewidgets"
    return Path(f"{stem}.workspace.json")


def read(path: Path) -> dict[str, Any] | None:
    """Return the document of a file, or None where there is none yet.

    Raises
    ------
    NlmeError
        If it is no workspace.
    """
    remedy = "give another name, or move the file away"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NlmeError(f"The workspace '{path}' cannot be read ({error.strerror}); {remedy}.") from None
    except (ValueError, RecursionError) as error:
        raise NlmeError(f"'{path}' is not a workspace ({type(error).__name__}); {remedy}.") from None
    if not isinstance(document, dict) or not isinstance(document.get("workspace"), int):
        raise NlmeError(f"'{path}' is JSON but not a workspace; {remedy}.")
    if document["workspace"] > FORMAT:
        raise NlmeError(f"The workspace '{path}' was written by a later version of nlmewidgets; update to open it.")
    return document


def model_and_data(path: str | Path) -> tuple[Model, Data]:
    """Return the model and the data of a workspace file.

    Raises
    ------
    NlmeError
        If there is none, or it is damaged.
    """
    document = read(Path(path))
    if document is None:
        raise NlmeError(f"There is no workspace '{path}'; give a model and data to begin one.")
    with _Damage(Path(path)):
        return model_from_dict(document["model"]), _read_data(document, document["data"], Path(path))


class Workspace:
    """Writes what an explorer holds into a file, and brings it back.

    Sliders, fixed and refit flags, method with options, selection, every fit, and the last iterate of a running one.
    The file is replaced as a whole, at most every `EVERY` seconds, beside the interface; reading it needs no kernel
    that ended well.

    Parameters
    ----------
    explorer : Explorer
    path : path

    Raises
    ------
    NlmeError
        If the file is there and is no workspace (it is left as it is), or its folder is not there.
    """

    def __init__(self, explorer: Any, path: str | Path) -> None:
        self.path = Path(path).resolve()
        if not self.path.parent.is_dir():
            raise NlmeError(f"There is no folder '{self.path.parent}' for the workspace; make it, or give another.")
        self.explorer = explorer
        self._declared = model_to_dict(explorer.model)
        self._given = explorer.data.fingerprint
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._wanted = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last, self._pause = -EVERY, EVERY
        self._running: tuple[Run, tuple[Any, ...], float] | None = None
        self._taken = -EVERY
        self._fits: dict[int, tuple[Fit, dict[str, Any]]] = {}
        self._data: dict[str, dict[str, Any]] = {}
        earlier = _open.get(self.path)
        found = earlier() if earlier is not None else None
        if found is not None:
            found.close()
        self.restored = self._restore(read(self.path))
        _open[self.path] = weakref.ref(self)
        explorer.observe(lambda _: self.touch(), names=list(_WATCHED))
        self.touch()

    # --------------------------------------------------------------------- writing

    def touch(self) -> None:
        """Have the file written soon."""
        if self._closed:
            return
        if sys.platform == "emscripten":
            self._later()
            return
        with self._lock:
            self._wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="nlmewidgets-workspace")
                self._thread.start()

    def iterate(self, run: Run, trace: Sequence[Any], elapsed: float) -> None:
        """Keep the last iterate of a running fit; called between its steps, while it still has all its arrays."""
        if time.monotonic() - self._taken < self._pause:
            return
        self._taken = time.monotonic()
        self._running = (run, (*trace[:-1], replace(trace[-1])), elapsed)
        self.touch()

    def ended(self) -> None:
        """Forget the running fit: it is among the fits now, or it failed."""
        self._running, self._taken = None, -EVERY

    def _work(self) -> None:
        while True:
            self._wake.wait(max(0.1, self._last + self._pause - time.monotonic()))
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                self._wanted = False
            self.write()

    def _later(self) -> None:
        """Write when it is time, by the event loop; at once where none runs."""
        if self._timer is not None:
            return
        wait = max(0.0, self._last + self._pause - time.monotonic())
        try:
            self._timer = asyncio.get_running_loop().call_later(wait, self.write)
        except RuntimeError:
            self.write()

    def write(self) -> None:
        """Write the file now; a failure is told in the explorer's notice."""
        self._timer = None
        if self.explorer.changing:  # model and data do not belong together at this moment
            self.touch()
            return
        with self._writing:
            began = time.monotonic()
            try:
                replace_file(self.path, to_json(self.document()))
            except OSError as error:
                self.explorer.notice = f"The workspace '{self.path}' cannot be written ({error.strerror})."
            except NlmeError as refusal:
                self.explorer.notice = f"The workspace is not saved: {refusal}"
            except Exception as error:  # the next change is written all the same
                self.explorer.notice = (
                    f"The workspace is not saved ({type(error).__name__}: {error}); please report it."
                )
            self._last = time.monotonic()
            self._pause = max(EVERY, _SHARE * (self._last - began))

    def document(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; data that several fits share are there once."""
        explorer = self.explorer
        with explorer.lock:
            model, data = explorer.model, explorer.data
            state, fits, running = state_of(explorer), explorer.fits, self._running
        self._fits = {id(f): self._fits.get(id(f)) or (f, self._fit(f)) for f in fits}
        if running is not None:
            run, trace, elapsed = running
            last: dict[str, Any] | None = self._fit(run.snapshot(trace, elapsed))
        else:
            last = None
        return {
            "workspace": FORMAT,
            "declared": self._declared,
            "given": self._given,
            "model": model_to_dict(model),
            "state": state,
            "data": self._key(data),
            "fits": [document for _, document in self._fits.values()],
            "running": last,
            "data_sets": self._data,
        }

    def _fit(self, fit: Fit) -> dict[str, Any]:
        return fit_to_dict(fit) | {"data": self._key(fit.data)}

    def _key(self, data: Data) -> str:
        key = data.fingerprint
        if key not in self._data:
            self._data[key] = data_to_dict(data.restored()) | {"left_out": steps(data)}
        return key

    # --------------------------------------------------------------------- reading

    def _restore(self, document: dict[str, Any] | None) -> bool:
        """Set the explorer to what the file holds; return whether there was anything."""
        if document is None:
            return False
        explorer = self.explorer
        known: dict[str, Data] = {explorer.data.fingerprint: explorer.data}

        def data_of(key: str) -> Data:
            if key not in known:
                known[key] = _read_data(document, key, self.path)
            return known[key]

        with _Damage(self.path):
            fits = [fit_from_dict(entry, self.path.name, data_of(entry["data"])) for entry in document["fits"]]
            interrupted = document["running"]
            if interrupted is not None:
                fits.append(fit_from_dict(interrupted, self.path.name, data_of(interrupted["data"])))
            declared = json.loads(to_json(self._declared))
            same = declared in (document["declared"], document["model"])
            model = model_from_dict(document["model"]) if same and document["model"] != declared else None
            # Data are others than those given where the explorer went on with others.
            again = document.get("given") == self._given and document["data"] != self._given
            if model is not None or again:
                explorer.use(model, data_of(document["data"]) if again else None)
            state = dict(document["state"])
            if not same:
                state |= {"params": {}, "fixed": [], "refit": []}
            state = checked(state, explorer.model)
        restore(explorer, state, sliders=same)
        explorer.fits = tuple(fits)
        fitting = [fit for fit in fits if fit.start.names == explorer.model.names]
        if fitting:
            explorer.result = fitting[-1]
            explorer.trace = fitting[-1].trace
            explorer.status = fitting[-1].status
        explorer.message = self._words(same, fits, interrupted is not None)
        return True

    def _words(self, same: bool, fits: list[Fit], interrupted: bool) -> str:
        text = f"Restored from {self.path.name}: {len(fits)} fit{'' if len(fits) == 1 else 's'}."
        if not same:
            text += " The declaration has changed since, so the sliders start at its own values."
        if interrupted:
            text += f" A fit was cut off; its last iterate is the result: OFV {fits[-1].ofv:.3f}."
        return text

    # ------------------------------------------------------------------------- end

    def close(self) -> None:
        """Write a last time and follow the explorer no more."""
        if self._closed:
            return
        self._closed = True
        with self._lock:
            self._wanted = False
        self._wake.set()
        self.write()
        if _open.get(self.path, lambda: None)() is self:
            del _open[self.path]


class _Damage:
    """Turns what a damaged file trips over into one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, Exception):
            why = str(error) if isinstance(error, NlmeError) else f"{type(error).__name__}: {error}"
            raise NlmeError(
                f"The workspace '{self.path}' is damaged ({why.rstrip('.')}); move it away, or give another name."
            ) from None


def _read_data(document: Mapping[str, Any], key: str, path: Path) -> Data:
    entry = document["data_sets"][key]
    return replay(data_from_dict(entry, path.name), entry["left_out"])


def replace_file(path: Path, text: str) -> None:
    """Write a file as a whole: whoever reads it, whenever, finds the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
