"""The page of a Visdom server, opened in a browser without a screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

# What visdom/server/build.py fetches from the internet, here out of npm packages: package, file, place in the folder.
SCRIPTS = [
    ("jquery@3.1.1", "dist/jquery.min.js", "js/jquery.min.js"),
    ("bootstrap@3.3.7", "dist/js/bootstrap.min.js", "js/bootstrap.min.js"),
    ("bootstrap@3.3.7", "dist/css/bootstrap.min.css", "css/bootstrap.min.css"),
    ("react@16.2.0", "umd/react.production.min.js", "js/react-react.min.js"),
    ("react-dom@16.2.0", "umd/react-dom.production.min.js", "js/react-dom.min.js"),
    ("react-modal@3.1.10", "dist/react-modal.min.js", "js/react-modal.min.js"),
    ("react-resizable@1.4.6", "css/styles.css", "css/react-resizable-styles.css"),
    ("react-grid-layout@0.16.3", "css/styles.css", "css/react-grid-layout-styles.css"),
    ("plotly.js-dist-min@2.11.1", "plotly.min.js", "js/plotly-plotly.min.js"),
    ("d3@3.5.17", "d3.min.js", "js/d3.v3.min.js"),
    ("d3-selection-multi@1.0.1", "build/d3-selection-multi.js", "js/d3-selection-multi.v1.js"),
    ("layout-bin-packer@1.4.0", "dist/layout-bin-packer.js", "js/layout_bin_packer.js"),
    ("save-svg-as-png@1.4.17", "lib/saveSvgAsPng.js", "js/saveSvgAsPng.js"),
]


def chromium() -> str | None:
    """The browser, if there is one."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def static_folder(folder: Path) -> Path:
    """A copy of the files of the page with all its scripts; those installed stay as they are."""
    import visdom

    static = folder / "static"
    shutil.copytree(Path(visdom.__file__).parent / "static", static)
    packages = sorted({package for package, _, _ in SCRIPTS})
    command = ["npm", "pack", "--silent", "--cache", str(folder / "npm"), *packages]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if packed.returncode:
        raise RuntimeError(f"npm pack: {packed.stderr}")
    for package, source, target in SCRIPTS:
        with tarfile.open(folder / f"{package.replace('@', '-')}.tgz") as archive:
            found = archive.extractfile(f"package/{source}")
            assert found is not None
            (static / target).write_bytes(found.read())
    return static


def browse(url: str, folder: Path, *arguments: str) -> str:
    """Open a page, let its scripts run for 8 virtual seconds, and return what the browser prints."""
    profile = folder / "profile"
    command = [chromium() or "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-dev-shm-usage", "--window-size=1200,900"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=8000", *arguments, url]
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    environment = {**os.environ, **home}  # where it leaves files of its own
    try:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120).stdout
    finally:
        shutil.rmtree(profile, ignore_errors=True)
