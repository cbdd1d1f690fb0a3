"""What a person sees of a run: one live line on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from diptych.training.run import Event

Show = Literal["auto", "live", "plain", "silent"]


class Display:
    """Shows events on standard error. "auto" is live on a terminal and plain elsewhere.

    Args:
        show: how.
        console: where; standard error by default.
        seconds: least time between two plain lines of the same kind.
    """

    def __init__(self, show: Show = "auto", console: Console | None = None, seconds: float = 5.0) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        if show == "auto":
            show = "live" if self.console.is_terminal else "plain"
        self.show = show
        self.seconds = seconds
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._started = (time.monotonic(), 0.0)
        self._spoken = -1e9

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self.show == "silent":
            return
        if event.kind == "start":
            self._start(event)
        if event.kind == "log":
            self._log(event)
        if event.kind in ("start", "note", "end"):
            self._say(event.text)
        if event.kind == "warning":
            self._say(event.text, style="bold yellow")
        if event.kind == "evaluate":
            self._say(f"step {event.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in event.values.items()))
        if event.kind == "end":
            self.close()

    def close(self) -> None:
        """Take the live line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self, event: Event) -> None:
        self._started = (time.monotonic(), event.progress)
        if self.show == "live":
            self._bar = Progress(BarColumn(20), TextColumn("{task.description}"), console=self.console, transient=True)
            self._task = self._bar.add_task("the first step", total=1.0)
            self._bar.update(self._task, completed=event.progress)
            self._bar.start()

    def _log(self, event: Event) -> None:
        line = (
            f"step {event.step} ({event.progress:.0%}), loss {event.values['loss']:.4f}, "
            f"{event.values['samples_per_second']:.0f} samples/s, {self._left(event.progress)} left"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=event.progress, description=line, refresh=True)
        elif event.progress >= 1 or time.monotonic() - self._spoken >= self.seconds:
            self._spoken = time.monotonic()
            self._say(line)

    def _left(self, progress: float) -> str:
        """The time left, at the pace since the start."""
        began, at = self._started
        if progress <= at:
            return "?"
        return clock((time.monotonic() - began) * (1 - progress) / (progress - at))

    def _say(self, text: str, style: str | None = None) -> None:
        if text:
            (self._bar.console if self._bar else self.console).print(text, style=style, markup=False, highlight=False)


def clock(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 3:20:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
