"""How Sphinx builds these pages: ``make check`` does, and takes every warning for an error."""

import ignite_core

project = "ignite_core"
copyright = "2026, the ignite_core authors"
release = version = ignite_core.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"

myst_enable_extensions = ["dollarmath"]
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
