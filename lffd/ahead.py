"""Work on the next items in threads while the caller is busy with this one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 4, workers: int = 1
) -> Iterator[Result]:
    """Yield `function(item)` for each item in order, up to `ahead` items before they are asked for.

    An error of the function is raised at its item. `workers` is how many items are worked on at once.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def newest(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield items that a thread takes as fast as they come, without those that newer ones overtake.

    What comes while the caller is busy is lost but for the last one. An error of the items is raised after the item
    before it. Close the iterator to end the thread; that waits for the item being made.
    """
    state = _Newest[Item]()
    thread = threading.Thread(target=state.fill, args=(items,), daemon=True)
    thread.start()
    try:
        while (found := state.take()) is not None:
            yield found[0]
    finally:
        state.stopped = True
        thread.join()
    if state.error is not None:
        raise state.error


class _Newest(Generic[Item]):
    """The item that waits for the caller of `newest`, if one does."""

    def __init__(self) -> None:
        self.stopped, self.ended = False, False
        self.error: BaseException | None = None
        self._waiting: tuple[Item] | None = None
        self._changed = threading.Condition()

    def fill(self, items: Iterable[Item]) -> None:
        """Put one item after the other in the place of the one before."""
        try:
            for item in items:
                if self.stopped:
                    break
                with self._changed:
                    self._waiting = (item,)
                    self._changed.notify()
        except BaseException as error:  # it belongs to the caller's thread
            self.error = error
        with self._changed:
            self.ended = True
            self._changed.notify()

    def take(self) -> tuple[Item] | None:
        """Return the newest item as soon as there is one; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self.ended)
            taken, self._waiting = self._waiting, None
            return taken
