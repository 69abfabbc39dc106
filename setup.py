"""What pyproject.toml cannot say: a wheel carries evaluators/, plots/ and sweeps/ as raybridge/house, where HOUSE looks.

An editable install carries nothing: there HOUSE is the clone.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = [str(path) for folder in ("evaluators", "plots", "sweeps") for path in sorted(Path(folder).glob("*.py"))]


class WithHouse(build_py):
    """The package's modules, and those of the folders that users write in."""

    def run(self) -> None:
        """Copy them into the build."""
        super().run()
        for file in [] if self.editable_mode else FILES:
            place = Path(self.build_lib, "raybridge", "house", file)
            self.mkpath(str(place.parent))
            self.copy_file(file, str(place))

    def get_source_files(self) -> list[str]:
        """What a source distribution takes along."""
        return [*super().get_source_files(), *FILES]


setup(cmdclass={"build_py": WithHouse})
