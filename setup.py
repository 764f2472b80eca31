"""Packages the code, so that Dataflow workers and the container image can import what the DAG names by path."""

from setuptools import find_packages, setup

CODE = ("cli", "components", "modules", "pipeline", "schema", "serving")

setup(
    packages=find_packages(include=[pattern for name in CODE for pattern in (name, f"{name}.*")]),
    py_modules=["runner_local", "runner_vertex"],
    package_data={"": ["*.pbtxt", "*.yaml", "*.html.j2", "*.css", "*.md.j2", "*.config", "*.json", "*.proto"]},
)
