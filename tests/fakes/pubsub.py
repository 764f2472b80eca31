"""Pub/Sub for unmodified clients, which ``PUBSUB_EMULATOR_HOST`` leads to it: Google's emulator, and a small stand-in.

The stand-in is for machines without the emulator, and the tests run on both. What it imitates: topics, subscriptions,
and messages that a pull hides until they are released (a deadline of 0 s) or acknowledged. It has no deadlines, and
answers a pull without messages with an empty list.
"""

import contextlib
import datetime
import itertools
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

from tests.fakes.listeners import wait_for_port

_LOOPBACK = "127.0.0.1"


class FakePubSub(grpc.GenericRpcHandler):
    """The stand-in."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, tuple[str, dict[str, types.PubsubMessage]]] = {}
        self._hidden: set[str] = set()
        self._ids = itertools.count(1)
        self._methods = {
            "/google.pubsub.v1.Publisher/CreateTopic": (types.Topic, lambda request: request),
            "/google.pubsub.v1.Publisher/Publish": (types.PublishRequest, self._publish),
            "/google.pubsub.v1.Subscriber/CreateSubscription": (types.Subscription, self._subscribe),
            "/google.pubsub.v1.Subscriber/Pull": (types.PullRequest, self._pull),
            "/google.pubsub.v1.Subscriber/Acknowledge": (types.AcknowledgeRequest, self._acknowledge),
            "/google.pubsub.v1.Subscriber/ModifyAckDeadline": (types.ModifyAckDeadlineRequest, self._release),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method not in self._methods:
            return None
        request, answer = self._methods[handler_call_details.method]

        def behaviour(message: Any, context: grpc.ServicerContext) -> Any:
            if isinstance(message, types.PullRequest) and message.subscription not in self._subscriptions:
                context.abort(grpc.StatusCode.NOT_FOUND, "Subscription does not exist")
            return answer(message)

        return grpc.unary_unary_rpc_method_handler(
            behaviour, request_deserializer=request.deserialize, response_serializer=_serialize
        )

    def _subscribe(self, request: types.Subscription) -> types.Subscription:
        self._subscriptions[request.name] = (request.topic, {})
        return request

    def _publish(self, request: types.PublishRequest) -> types.PublishResponse:
        ids = [str(next(self._ids)) for _ in request.messages]
        for message_id, message in zip(ids, request.messages, strict=True):
            message.message_id, message.publish_time = message_id, datetime.datetime.now(datetime.UTC)
            for topic, messages in self._subscriptions.values():
                if topic == request.topic:
                    messages[message_id] = message
        return types.PublishResponse(message_ids=ids)

    def _pull(self, request: types.PullRequest) -> types.PullResponse:
        messages = self._subscriptions[request.subscription][1]
        pulled = [name for name in messages if name not in self._hidden][: request.max_messages]
        self._hidden.update(pulled)
        return types.PullResponse(received_messages=[{"ack_id": name, "message": messages[name]} for name in pulled])

    def _acknowledge(self, request: types.AcknowledgeRequest) -> empty_pb2.Empty:
        for name in request.ack_ids:
            self._subscriptions[request.subscription][1].pop(name, None)
        return empty_pb2.Empty()

    def _release(self, request: types.ModifyAckDeadlineRequest) -> empty_pb2.Empty:
        assert request.ack_deadline_seconds == 0, "no other deadline is imitated"
        self._hidden.difference_update(request.ack_ids)
        return empty_pb2.Empty()


def _serialize(message: Any) -> bytes:
    return message.SerializeToString() if hasattr(message, "SerializeToString") else type(message).serialize(message)


@contextlib.contextmanager
def stand_in() -> Iterator[str]:
    """Serve the stand-in; yield its HOST:PORT."""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[FakePubSub()])
    port = server.add_insecure_port(f"{_LOOPBACK}:0")
    server.start()
    yield f"{_LOOPBACK}:{port}"
    server.stop(grace=None).wait()


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """Run Google's emulator; yield its HOST:PORT. Skips the test without it."""
    gcloud = shutil.which("gcloud")
    program = Path(gcloud or "/").resolve().parents[1] / "platform/pubsub-emulator/bin/cloud-pubsub-emulator"
    if not gcloud or not program.exists() or not shutil.which("java"):
        pytest.skip("Google's emulator is missing; `gcloud components install pubsub-emulator` installs it, with Java")
    with socket.socket() as unused:
        unused.bind((_LOOPBACK, 0))
        port = unused.getsockname()[1]
    command = [program, f"--host={_LOOPBACK}", f"--port={port}"]
    with (folder / "emulator.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for_port(port, process)
            yield f"{_LOOPBACK}:{port}"
        finally:
            process.terminate()
