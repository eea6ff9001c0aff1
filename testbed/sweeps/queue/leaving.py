"""Leaving in order when SIGTERM comes, also in the middle of a computation; Ctrl-C."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def leaving(last: Callable[[], None]) -> Iterator[None]:
    """On SIGTERM calls `last` and ends the process at once, with exit code 143.

    Python's own handlers wait until a computation returns; a thread does not.  Use it
    in the main thread.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def watch() -> None:
        while byte := receiver.recv(1):  # the number of a signal; none at the end
            if byte[0] == signal.SIGTERM:
                try:
                    last()
                finally:
                    os._exit(128 + signal.SIGTERM)

    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    wakeup = signal.set_wakeup_fd(sender.fileno())
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, handler)
        sender.close()
        thread.join()
        receiver.close()


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C is noted, and the function that is given raises KeyboardInterrupt for it.

    Python's own handler raises it wherever the process is; in a callback of the garbage
    collector, of which jax has one, it is dropped, and the process goes on.  Use it in
    the main thread, and call the function a few times a second.
    """
    came = threading.Event()

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    handler = signal.signal(signal.SIGINT, lambda *_: came.set())
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, handler)
