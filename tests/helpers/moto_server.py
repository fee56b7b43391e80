"""A server of S3's interface on loopback, in this process: ``with bucket() as url``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

NAME = "backbench-tests"


@contextmanager
def bucket() -> Iterator[str]:
    """``s3://NAME``, empty; the variables that fsspec reads lead to it, here and in processes that start meanwhile."""
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    about = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        with patch.dict(os.environ, about | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}):
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(NAME)
            yield f"s3://{NAME}"
    finally:
        server.stop()
