"""Where the console's files lie: our templates and modules, and the browser packages that set-up installs."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
TEMPLATES: Final = FOLDER / "templates"
STATIC: Final = FOLDER / "static"
PACKAGES: Final = FOLDER / "node_modules"

VENDOR: Final = {
    # served as: where `npm ci` puts it
    "uPlot.esm.js": "uplot/dist/uPlot.esm.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
    "inter.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
}
MISSING_TEXT: Final = "console assets are missing: run `make setup`"


def missing(packages: Path = PACKAGES) -> list[str]:
    """Browser files that are not installed, by the path they should have."""
    return [path for path in VENDOR.values() if not (packages / path).is_file()]
