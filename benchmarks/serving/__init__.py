"""Serving against its alternatives: ``python -m benchmarks.serving --model-base-path DIR [--data DIR] [--seconds N]``.

Candidates, on the same clips, alternating in one run:

* ``ser serve`` over gRPC, batching off and on, with audio (``serving_default``) and with features;
* (a) the same signature called in this process, one item at a time and at its best batch size;
* (b) features extracted by librosa in the client and sent as JSON over REST;
* the floor: a grpc.aio server that receives the same requests and does nothing with them.

One client and 32 at once. The 32 are coroutines, or threads for (b), in one process for each of their cores.

The servers have one half of the cores, clients and (a) the other. So neither takes the time of the other, and the
server is compared with the model on as many cores. The CPU time of the server's process for each request is measured as
well, because it depends less on the load of the machine.
"""
