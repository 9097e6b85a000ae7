"""A real JupyterLab in a real browser, started once and driven through its own commands.

The server and its kernels run on this interpreter, or on the one that LAB_PYTHON names: an environment with the oldest
versions supported, say, which needs no test tools.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("LAB_PYTHON", sys.executable)
"""What runs the server and the kernels."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def theophylline(residual: str) -> str:
    """Return the cell of an environment over the theophylline data."""
    return f"""\
import nlmewidgets as nw
data = nw.datasets.load("theophylline")
model = nw.library.oral_1cpt(
    ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2),
    residual={residual}, name="Theophylline",
)
explorer = nw.explore(model, data)
explorer
"""


def find_browser() -> str | None:
    """Return the path of an installed Chrome or Chromium."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path:
            return path
    return MAC_CHROME if Path(MAC_CHROME).exists() else None


@dataclass
class Server:
    """A JupyterLab server, or Notebook 7, with its own directories and no network traffic of its own."""

    root: Path
    url: str = ""
    app: str = "jupyterlab"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        home = self.root / "jupyter"
        settings = home / "lab" / "user-settings" / "@jupyterlab"
        (settings / "apputils-extension").mkdir(parents=True)
        (settings / "apputils-extension" / "notification.jupyterlab-settings").write_text(
            json.dumps({"fetchNews": "false", "checkForUpdates": False})
        )
        environment = os.environ | {
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "lab" / "user-settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "lab" / "workspaces"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger of a kernel warns otherwise, on the kernel's stderr
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.getenv("PYTHONPATH")])),
        }
        command = [PYTHON, "-m", self.app, "--no-browser", "--allow-root", f"--port={port}"]
        command += ["--ServerApp.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
        command += [f"--ServerApp.root_dir={self.root}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url="]
        command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
        with (self.root / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.root)
        self.url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api", timeout=2) as reply:
                    reply.read()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    text = (self.root / "server.log").read_text(errors="replace")
                    raise RuntimeError(f"{self.app} did not start:\n{text[-3000:]}") from None
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def write(path: Path, cells: list[str]) -> None:
    """Write a notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


class Notebook:
    """One open notebook: run it, look at it, and learn of every error in its kernel.

    Errors in widget callbacks and threads do not show in a notebook; they are collected from the
    kernel's messages in `errors`, and the fixture fails on them.
    """

    def __init__(self, page: Any, server: Server, name: str) -> None:
        self.page = page
        self.server = server
        self.name = name

    @classmethod
    def open(cls, page: Any, server: Server, cells: list[str], name: str = "test.ipynb") -> Notebook:
        write(server.root / name, cells)
        self = cls(page, server, name)
        if not page.url.startswith(server.url):  # one JupyterLab for all notebooks: it takes seconds to load
            page.goto(f"{server.url}/lab?reset")
            page.wait_for_function("() => window.jupyterapp && window.jupyterapp.restored", timeout=60_000)
            page.evaluate("async () => { await window.jupyterapp.restored; }")
        page.evaluate(
            """async (path) => {
                const app = window.jupyterapp;
                const widget = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
                await widget.context.ready;
                await widget.sessionContext.ready;
                window.nlmeErrors = [];
                widget.sessionContext.iopubMessage.connect((_, m) => {
                    const kind = m.header.msg_type;
                    if (kind === 'error') window.nlmeErrors.push(m.content.ename + ': ' + m.content.evalue
                        + '\\n' + m.content.traceback.join('\\n'));
                    if (kind === 'stream' && m.content.name === 'stderr') window.nlmeErrors.push(m.content.text);
                });
                app.shell.activateById(widget.id);
                window.nlmeNotebook = widget;
            }""",
            name,
        )
        return self

    def run(self, timeout: float = 90_000) -> None:
        """Run all cells and wait for them."""
        self.page.set_default_timeout(timeout)
        self.page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

    @property
    def errors(self) -> list[str]:
        found = self.page.evaluate("() => window.nlmeErrors")
        # The widget manager probes the kernel before ipywidgets is imported there; that is no error of ours.
        return [text for text in found if not text.startswith("No such comm")]

    def wait_for(self, script: str, timeout: float = 30_000) -> None:
        """Wait until a JavaScript expression is true."""
        self.page.wait_for_function(f"() => {script}", timeout=timeout)

    def settle(self) -> None:
        """Wait until the kernel is idle and the page has been painted."""
        self.execute("pass")
        self.page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
        self.page.wait_for_timeout(250)

    def text(self) -> str:
        """Return everything the explorer says."""
        return str(self.page.locator(".nlme").first.inner_text())

    def theme(self, name: str) -> None:
        """Switch JupyterLab's theme, 'JupyterLab Light' or 'JupyterLab Dark'."""
        self.page.evaluate(
            "async (theme) => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme}); }", name
        )
        self.page.wait_for_timeout(400)

    def hide_side(self) -> None:
        """Give the notebook the whole width."""
        self.page.evaluate(
            """async () => {
                const app = window.jupyterapp;
                if (!app.shell.leftCollapsed) await app.commands.execute('application:toggle-left-area');
            }"""
        )

    def execute(self, code: str) -> str:
        """Run code in the notebook's kernel and return what it printed."""
        return str(
            self.page.evaluate(
                """async (code) => {
                    const kernel = window.nlmeNotebook.sessionContext.session.kernel;
                    const future = kernel.requestExecute({code, store_history: false});
                    let text = '';
                    future.onIOPub = m => { if (m.header.msg_type === 'stream') text += m.content.text; };
                    const reply = await future.done;
                    if (reply.content.status === 'error') throw new Error(reply.content.evalue);
                    return text;
                }""",
                code,
            )
        )

    def kill(self) -> None:
        """Kill the kernel, as running out of memory does, and wait until the server has started another."""
        self.page.evaluate(
            """() => {
                window.nlmeRestarted = false;
                window.nlmeNotebook.sessionContext.statusChanged.connect((_, status) => {
                    if (status === 'autorestarting') window.nlmeRestarted = true;
                });
            }"""
        )
        os.kill(int(self.execute("import os; print(os.getpid())")), signal.SIGKILL)
        self.wait_for(
            "window.nlmeRestarted && window.nlmeNotebook.sessionContext.session.kernel.status === 'idle'", 60_000
        )
        # JupyterLab says so in a dialog.
        self.page.keyboard.press("Enter")

    def close(self) -> None:
        self.page.evaluate(
            """async () => {
                const w = window.nlmeNotebook;
                await w.context.save();
                await w.sessionContext.shutdown();
                w.dispose();
            }"""
        )
