"""Write the page in the browser as files that any web server can offer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.page.site import site
from deployment.page.web_runtime import WebRuntime
from lffd import cli
from lffd.errors import UsageError
from lffd.files import OutputFolder, write_atomic


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, and where to."""

    output_dir: Path
    """Folder for the files, index.html among them."""
    models: tuple[str, ...] = ()
    """Models to choose from, the first chosen at the start: names or folders; all shipped ones by default."""
    runtime: Annotated[WebRuntime, tyro.conf.arg(name="")] = field(default_factory=WebRuntime)


def main(options: Options) -> None:
    """Write the page in the browser as files: drop a photo or open the camera, boxes appear.

    The network runs in the browser; no image leaves the machine. Offer the folder with any web server, on localhost or
    over https (browsers open a camera for no other page).
    """
    found = site(options.models, options.runtime.files())
    with OutputFolder(options.output_dir) as folder:
        paths = {name: options.output_dir / name for name in found}
        for path in paths.values():
            if not folder.may_write(path):
                raise UsageError(f"{path} was not made by this command, so it is not replaced: choose another folder")
        for name, path in paths.items():
            write_atomic(folder.claim(path), found[name])
    size = sum(map(len, found.values())) / 1e6
    print(f"wrote {len(found)} files, {size:.1f} MB, to {options.output_dir}; index.html is the page")


if __name__ == "__main__":
    cli.run(main)
