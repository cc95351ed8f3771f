"""The only file that imports FairScale.

FairScale 0.4.13 is its last release (2022). Its parts are taken as they are; what goes wrong with
them under newer torch is cured where they are used, and each cure has a test.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

try:
    from fairscale.nn.data_parallel import fully_sharded_data_parallel, sharded_ddp
    from fairscale.optim import oss
except ImportError as error:
    raise ValueError(
        "sharding.strategy: ddp_oss, fairscale_sdp and fairscale_fsdp need FairScale, which does "
        f"not import ({error}); pip install fairscale==0.4.13, or set sharding.strategy to fsdp2 "
        "or ddp"
    ) from error

# Its annotations are not those that a checker could rely on.
OSS: Any = oss.OSS
FullyShardedDataParallel: Any = fully_sharded_data_parallel.FullyShardedDataParallel
ShardedDataParallel: Any = sharded_ddp.ShardedDataParallel
TrainingState: Any = fully_sharded_data_parallel.TrainingState

# Every step would warn of calls that torch renamed and still has; nobody but FairScale can change
# them.
for message in ("TypedStorage is deprecated", r"`torch\.distributed\._\w+_base` is a private"):
    warnings.filterwarnings("ignore", message=message, module=r"fairscale\.")

# It tells of its buckets through the root logger.
FOLDER = str(Path(oss.__file__).parents[1])
logging.getLogger().addFilter(
    lambda record: record.levelno >= logging.WARNING or not record.pathname.startswith(FOLDER)
)
