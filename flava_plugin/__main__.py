"""``python -m flava_plugin`` is ``flava``."""

import sys

from flava_plugin.cli.main import main

sys.exit(main())
