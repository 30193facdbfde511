"""How Sphinx builds these pages: ``make check`` does, and takes every warning for an error."""

import sys
from pathlib import Path

import ignite_core

sys.path.insert(0, str(Path(__file__).parent))  # for curve_pictures

project = "ignite_core"
copyright = "2026, the ignite_core authors"
release = version = ignite_core.__version__

extensions = ["curve_pictures", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
