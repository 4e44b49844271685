"""`flowq worker` with a lease as short as tests need it: `python short_lease.py URL NAMESPACE OPTIONS` (JSON)."""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec

from flowq.engine.worker.supervisor import Supervisor, WorkerOptions
from flowq.settings import Settings

if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    options = msgspec.json.decode(sys.argv[3], type=WorkerOptions)
    asyncio.run(Supervisor(Settings(url=sys.argv[1], namespace=sys.argv[2]), options).run())
