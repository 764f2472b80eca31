"""Package of the code for Dataflow workers and container images, which import the modules that the DAG names by path.

The packages are top-level (``components``, ``modules``, …) and not below one common package: the layout of the
repository is fixed, and TFX imports by path from the same layout. Install it into an environment of its own.
"""

from setuptools import find_packages, setup

CODE = ("cli", "components", "modules", "pipeline", "schema", "serving")

setup(
    packages=find_packages(include=[pattern for name in CODE for pattern in (name, f"{name}.*")]),
    py_modules=["runner_local", "runner_vertex"],
    package_data={"": ["*.pbtxt", "*.yaml", "*.html.j2", "*.css", "*.md.j2", "*.config", "*.json", "*.proto"]},
)
