"""The process that talks to wandb, and the only module that imports it.

    python -m testbed.runs.mirror

reads one JSON message a line on its input and says on its output what came of them.
wandb's own functions may block for ever when its server does not answer, and so may
what it does at the exit of the process that imported it; this process can be ended at
any time, and wandb's service ends with it.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

INIT_SECONDS = 15  # for the server's answer; a run trains meanwhile
LEAVE_SECONDS = 5.0  # to end the wandb run after the job's process has gone


def main() -> None:
    """Mirrors one run after another; ends with the process that sends messages."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # wandb's service inherits these, and keeps them open
        if stream == 0:
            messages = os.fdopen(os.dup(0), encoding="utf-8")
        os.dup2(null, stream)

    def tell(**event: Any) -> None:
        out.write(json.dumps(event) + "\n")

    inbox: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_read, args=(messages, inbox), daemon=True).start()
    code = 1
    try:
        while "start" in (message := inbox.get()):
            _mirror(message["start"], inbox.get, tell)
        code = 0
    except BaseException as error:  # also wandb's own exits
        tell(failed=str(error).strip() or type(error).__name__)
    finally:
        os._exit(code)  # not by way of what wandb does at an exit, which may block


def _read(messages, inbox: queue.SimpleQueue) -> None:
    """Takes messages as they come, so that who sends them never waits for wandb."""
    for line in messages:
        inbox.put(json.loads(line))
    inbox.put({"finish": {"exit_code": 1}})  # the job's process has gone
    inbox.put({})
    leave = threading.Timer(LEAVE_SECONDS, os._exit, (1,))
    leave.daemon = True
    leave.start()


def _mirror(
    start: dict[str, Any],
    get: Callable[[], dict[str, Any]],
    tell: Callable[..., None],
) -> None:
    """Mirrors one run, from what wandb needs at its start to its last message."""
    sys.argv = start["argv"]  # which wandb records
    import wandb

    settings = wandb.Settings(
        console="off",
        init_timeout=INIT_SECONDS,
        x_disable_stats=True,
        disable_code=True,
    )
    tell(asked=time.monotonic())
    run = wandb.init(settings=settings, resume="allow", **start["init"])
    run.define_metric(start["axis"])
    run.define_metric("*", step_metric=start["axis"])
    tell(started=os.path.dirname(run.dir))
    rows = 0
    while True:
        message = get()
        if "finish" in message:
            break
        # wandb drops a row whose number it has, as after a resume of the run.
        number = {"step": rows, "commit": True} if message["again"] else {}
        run.log(message["row"], **number)
        rows += 1
    last = message["finish"]
    images = {name: wandb.Image(path) for name, path in last.get("images", {}).items()}
    if images:
        run.log(images)
    run.summary.update(last.get("summary", {}))
    run.finish(exit_code=last["exit_code"])
    wandb.teardown()  # waits until the service has written everything
    tell(finished=True)


if __name__ == "__main__":
    main()
