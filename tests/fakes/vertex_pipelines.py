"""Fake of Vertex AI Pipelines that executes a compiled pipeline in processes instead of containers.

The contract that is imitated, from TFX's container entrypoint and Google's pipeline spec 2.1:

* A task runs when those that it depends on are done, and those whose artifacts it takes; independent tasks run at once.
* A container gets its command and arguments with ``{{$}}`` replaced by the ExecutorInput as JSON: parameters from
  constants and from the run's own, input artifacts as in the metadata store, output artifacts with a name, a
  type and an address below ``<root>/<project>/<run>/<task>_<id>/``.
* Where there is a pre-cache check (TFX's ExampleGen driver) it runs first, with the same input. What it writes to the
  output file changes the parameters and the outputs' metadata, and the file stays for the executor to read.
* Afterwards the output file holds each output artifact's address and metadata. The store keeps them, with the type.
* A resolver queries the store: type, state, a number or a name; the newest match counts. No match is no artifact, and
  an optional input is then left empty.
* A task that fails is tried again as often as its retry policy says; then the run fails and starts no more tasks.

* A task whose caching is enabled and that ran before with the same container, parameters and input artifacts does not
  run again: its former outputs are used. The result of the pre-cache check belongs to the parameters.

Importers, exit handlers, conditions and loops are not used by this pipeline and refused.
"""

import collections
import dataclasses
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"metadata\.(\w+)\.number_value=(\S+)")
_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.artifacts\['(\w+)'\]\.metadata\['(\w+)'\]\}\}")
_TYPE = re.compile(r'schema_title="([^"]+)"')
_NAME = re.compile(r'name="([^"]*)"')


class TaskFailed(RuntimeError):
    """A container failed in every attempt."""


@dataclasses.dataclass
class Task:
    """Outcome of a task in a run."""

    inputs: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    outputs: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    seconds: float = 0
    attempts: int = 0
    cached: bool = False


class LocalPipelines:
    """Runner of compiled jobs, with a metadata store that all runs share."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        concurrency: int = 2,
        read_text: Callable[[str], str] = lambda address: Path(address).read_text(),
    ) -> None:
        """Take the folder of logs, the environment of the image, and the number of tasks that may run at once.

        Args:
            read_text: Function that reads a file at an address below the pipeline root.
        """
        self.artifacts: list[dict[str, Any]] = []
        self._cache: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._folder = folder
        self._environ = dict(environ)
        self._concurrency = concurrency
        self._read_text = read_text
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def run(
        self, job: dict[str, Any], *, run_id: str = "run-1", until: Collection[str] | None = None
    ) -> dict[str, Task]:
        """Run a job, or the tasks ``until`` and their dependencies alone.

        Returns:
            The tasks that ran, by name.

        Raises:
            TaskFailed: With the end of the task's log.
        """
        run = _Run(job, run_id)
        tasks = run.with_dependencies(until) if until else set(run.tasks)
        waiting = {name: run.dependencies(name) & tasks for name in tasks}
        running: dict[futures.Future[None], str] = {}
        with futures.ThreadPoolExecutor(self._concurrency) as pool:
            while waiting or running:
                for name in [name for name, unmet in waiting.items() if not unmet]:
                    del waiting[name]
                    running[pool.submit(self._task, run, name)] = name
                finished, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                for future in finished:
                    name = running.pop(future)
                    future.result()
                    for unmet in waiting.values():
                        unmet.discard(name)
        return run.done

    def log(self, run_id: str, task: str) -> Path:
        """Return the output of a task's containers."""
        return self._folder / f"{run_id}_{task}.log"

    def _task(self, run: "_Run", name: str) -> None:
        started = time.monotonic()
        task = run.done[name] = Task()
        task.inputs = {key: run.done[producer].outputs.get(output, []) for key, producer, output in run.inputs(name)}
        component, executor = run.component(name), run.executor(name)
        if "resolver" in executor:
            task.outputs = self._resolve(executor["resolver"], task.inputs)
        elif "container" in executor:
            retries = run.tasks[name].get("retryPolicy", {}).get("maxRetryCount", 0)
            for attempt in range(1, retries + 2):
                task.attempts = attempt
                if self._attempt(run, name, task, component, executor["container"]):
                    break
            else:
                log = self.log(run.run_id, name).read_text()
                raise TaskFailed(f"{name} failed {task.attempts} times:\n{log[-4000:]}")
        else:
            raise TaskFailed(
                f"{name} is neither a container nor a resolver, the kinds that run here: {sorted(executor)}"
            )
        task.seconds = time.monotonic() - started

    def _attempt(
        self, run: "_Run", name: str, task: Task, component: dict[str, Any], container: dict[str, Any]
    ) -> bool:
        task_root = f"{run.root}/{run.project}/{run.run_id}/{name}_{next(self._ids)}"
        executor_input = self._executor_input(run, name, task, component, task_root)
        output_file = executor_input["outputs"]["outputFile"]
        checked: dict[str, Any] = {}
        check = container.get("lifecycle", {}).get("preCacheCheck")
        if check:
            if not self._process(run, name, [*check["command"], *check["args"]], executor_input):
                return False
            checked = json.loads(self._read_text(output_file))
            _merge(executor_input["outputs"]["artifacts"], checked)
        key = json.dumps([name, container, run.parameters(name), _names(task.inputs), checked.get("parameterValues")])
        if run.tasks[name].get("cachingOptions", {}).get("enableCache") and key in self._cache:
            task.outputs, task.cached = self._cache[key], True
            return True
        if not self._process(run, name, [*container["command"], *container["args"]], executor_input):
            return False
        written = json.loads(self._read_text(output_file)).get("artifacts", {})
        _merge(executor_input["outputs"]["artifacts"], {"artifacts": written})
        task.outputs = {key: value["artifacts"] for key, value in executor_input["outputs"]["artifacts"].items()}
        with self._lock:
            self._cache[key] = task.outputs
            self.artifacts += [artifact for artifacts in task.outputs.values() for artifact in artifacts]
        return True

    def _process(self, run: "_Run", name: str, command: list[str], executor_input: dict[str, Any]) -> bool:
        text = json.dumps(executor_input)
        arguments = [sys.executable if part == "python" else text if part == "{{$}}" else part for part in command]
        with self.log(run.run_id, name).open("a") as log:
            finished = subprocess.run(
                arguments, stdout=log, stderr=log, env=self._environ, cwd=self._folder, check=False
            )
        return finished.returncode == 0

    def _executor_input(
        self, run: "_Run", name: str, task: Task, component: dict[str, Any], task_root: str
    ) -> dict[str, Any]:
        outputs = component.get("outputDefinitions", {}).get("artifacts", {})
        store = f"projects/{run.project}/locations/r/metadataStores/default/artifacts"
        return {
            "inputs": {
                "parameterValues": run.parameters(name),
                "artifacts": {key: {"artifacts": artifacts} for key, artifacts in task.inputs.items()},
            },
            "outputs": {
                "artifacts": {
                    key: {
                        "artifacts": [
                            {
                                "name": f"{store}/{next(self._ids)}",
                                "type": definition["artifactType"],
                                "uri": f"{task_root}/{key}",
                                "metadata": {},
                            }
                        ]
                    }
                    for key, definition in outputs.items()
                },
                "parameters": {},
                "outputFile": f"{task_root}/executor_output.json",
            },
        }

    def _resolve(
        self, resolver: dict[str, Any], inputs: dict[str, list[dict[str, Any]]]
    ) -> dict[str, list[dict[str, Any]]]:
        queries = resolver["outputArtifactQueries"]
        return {key: list(self._newest(query["filter"], inputs)) for key, query in queries.items()}

    def _newest(self, query: str, inputs: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        (title,) = _TYPE.findall(query)
        names = []
        for name in _NAME.findall(query):
            key, metadata = _PLACEHOLDER.fullmatch(name).groups()
            if not inputs.get(key):
                return
            names.append(inputs[key][0]["metadata"][metadata])
        for artifact in reversed(self.artifacts):
            numbers = all(artifact["metadata"].get(key) == float(value) for key, value in _NUMBER.findall(query))
            if _title(artifact) == title and numbers and all(artifact["name"] == name for name in names):
                yield artifact
                return


class _Run:
    """A compiled job."""

    def __init__(self, job: dict[str, Any], run_id: str) -> None:
        spec = job["pipelineSpec"]
        self.run_id = run_id
        self.project = "123456"
        self.root = job["runtimeConfig"]["gcsOutputDirectory"]
        self.tasks: dict[str, Any] = spec["root"]["dag"]["tasks"]
        self.done: dict[str, Task] = {}
        self._values = job["runtimeConfig"].get("parameterValues", {})
        self._components = spec["components"]
        self._executors = spec["deploymentSpec"]["executors"]
        unsupported = [name for name, task in self.tasks.items() if {"triggerPolicy", "iterator"} & set(task)]
        if unsupported:
            raise ValueError(f"conditions and loops do not run here: {unsupported}")

    def component(self, task: str) -> dict[str, Any]:
        return self._components[self.tasks[task]["componentRef"]["name"]]

    def executor(self, task: str) -> dict[str, Any]:
        return self._executors[self.component(task)["executorLabel"]]

    def inputs(self, task: str) -> Iterator[tuple[str, str, str]]:
        """Yield key of the input, task that makes it, and key of its output."""
        for key, source in self.tasks[task].get("inputs", {}).get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            yield key, output["producerTask"], output["outputArtifactKey"]

    def dependencies(self, task: str) -> set[str]:
        return {*self.tasks[task].get("dependentTasks", ()), *(producer for _, producer, _ in self.inputs(task))}

    def with_dependencies(self, tasks: Collection[str]) -> set[str]:
        needed: set[str] = set()
        waiting = collections.deque(tasks)
        while waiting:
            task = waiting.popleft()
            needed.add(task)
            waiting.extend(self.dependencies(task) - needed)
        return needed

    def parameters(self, task: str) -> dict[str, Any]:
        given = self.tasks[task].get("inputs", {}).get("parameters", {})
        return {
            key: source["runtimeValue"]["constant"]
            if "runtimeValue" in source
            else self._values[source["componentInputParameter"]]
            for key, source in given.items()
        }


def _merge(outputs: dict[str, Any], written: dict[str, Any]) -> None:
    """Merge a container's report on its outputs, which lacks their type, into the artifacts."""
    for key, value in written.get("artifacts", {}).items():
        for artifact, reported in zip(outputs[key]["artifacts"], value["artifacts"], strict=True):
            artifact["uri"] = reported.get("uri", artifact["uri"])
            artifact["metadata"] = {**artifact["metadata"], **reported.get("metadata", {})}


def _names(artifacts: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    return {key: [artifact["name"] for artifact in listed] for key, listed in artifacts.items()}


def _title(artifact: dict[str, Any]) -> str:
    kind = artifact["type"]
    if "schemaTitle" in kind:
        return kind["schemaTitle"]
    return re.search(r"^title: (\S+)", kind["instanceSchema"], re.MULTILINE).group(1)
