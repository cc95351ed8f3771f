"""Where copies of remote shards are kept on this machine, and how the remote end is asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from flava_plugin.schema import Positive, PositiveFloat, Section, expand_variables


class CacheSection(Section):
    """A bounded folder of copies of remote shards, shared by all processes of a machine.

    Attributes:
        folder: A folder on a local disk; ``$VAR`` is expanded; made where it is missing.
        gib: Most GiB it holds, copies under way included. It should hold all shards that are
            read at one time, twice over.
        connections: Files each process fetches at a time, ahead of need.
        retries: How often a failed request is repeated before the run stops.
        timeout: Seconds without an answer to a request (of at most 8 MiB, less on a line that
            proves slow) after which it is given up and repeated.
    """

    folder: Annotated[str, BeforeValidator(expand_variables)]
    gib: PositiveFloat = 50.0
    connections: Positive = 4
    retries: Positive = 8
    timeout: PositiveFloat = 60.0
