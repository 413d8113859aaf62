"""Whether we were told to stop: libraries swallow a cancellation now and then, or turn it into an error of theirs."""

import asyncio


def cancelled() -> bool:
    """To be asked by whatever goes on for ever, in each round and before it shrugs off an error."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
