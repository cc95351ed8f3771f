"""How a command that trains ends: whatever stops it becomes one line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable


def run_to_code(work: Callable[[], None]) -> int:
    """Train, and say what came of it.

    Args:
        work: What trains.

    Returns:
        0 done, 1 failed, 130 after Ctrl-C and 143 after SIGTERM, the run being saved.

    Raises:
        RecipeError: The recipe is refused, or the run folder holds another one's checkpoint.
    """
    from flava_plugin.data.damage import StoreError
    from flava_plugin.data.reading import UnreadableDataError
    from flava_plugin.recipe import RecipeError
    from flava_plugin.train.leaving import leave_at_once
    from flava_plugin.train.requeue import Stopped
    from flava_plugin.train.run_folder import LostClaimError
    from flava_plugin.train.world import LostRankError

    try:
        work()
    except Stopped as stopped:
        print(f"flava: {stopped}", file=sys.stderr)
        return leave_at_once(stopped.exit_code)
    except KeyboardInterrupt:
        print("flava: aborted; the last checkpoint stands", file=sys.stderr)
        return leave_at_once(130)
    except RecipeError:
        raise
    except ValueError as error:  # what only the built parts can refuse, such as the batch's cut
        raise RecipeError(str(error).splitlines()) from error
    except (
        ArithmeticError,
        OSError,
        LostClaimError,
        LostRankError,
        StoreError,
        UnreadableDataError,
    ) as error:
        print(f"flava: {error}", file=sys.stderr)
        return leave_at_once(1)
    return leave_at_once()
