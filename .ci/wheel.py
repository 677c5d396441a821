"""For the build of a wheel: one without the browser phone would miss it only when somebody opens the page."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuiltPhone(BuildHookInterface):
    """Nothing is built here: that takes npm, which `make setup` has."""

    def initialize(self, version: str, build_data: "dict[str, Any]") -> None:  # noqa: ARG002
        """raises RuntimeError, unless it is there, or the wheel is for working on the sources"""
        if (
            version != "editable"
            and not (Path(self.root) / "bridge" / "web" / "static" / "phone.js").is_file()
        ):
            raise RuntimeError(
                "The browser phone is not built: run `make setup` first, then build the wheel."
            )
