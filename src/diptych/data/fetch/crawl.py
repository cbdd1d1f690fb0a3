"""The loop that keeps connections busy: rows come from the table, wait for their host, are asked for, and are kept.

One thread runs the loop, one reads the table, one writes to disk, and one a core decodes. Everything between them is
bounded, so that a table of any length takes the same memory.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from diptych.data.fetch.addresses import host_of
from diptych.data.fetch.client import Answer, Client
from diptych.data.fetch.content import prove
from diptych.data.fetch.ledger import FETCHED, OPEN, Line
from diptych.data.fetch.options import FetchOptions
from diptych.data.fetch.output import Output
from diptych.data.fetch.reasons import PASSING, Failed
from diptych.data.fetch.schedule import GIVEN_UP_SECONDS, Host, Job, Schedule, note_end, shut_reason
from diptych.data.fetch.survey import Refused, Survey, Wanted
from diptych.data.formats.rows import merge_by_picture
from diptych.data.importing import Progress
from diptych.types import EncodedImage, Sample

READ_ROWS = 512  # taken from the table at a time
NAME_THREADS = 32  # that look up host names


class Crawl:
    """One run over a table.

    Attributes:
        requests: made so far.
    """

    def __init__(
        self, survey: Survey, output: Output, options: FetchOptions, retried: set[str], progress: Progress | None
    ) -> None:
        self.requests = 0
        self._survey = survey
        self._output = output
        self._options = options
        self._retried = retried
        self._progress = progress
        self._done = 0
        self._schedule = Schedule(options.per_host, options.delay, probe=options.robots)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="fetch-table")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="fetch-disk")
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="fetch-decode")

    def close(self) -> None:
        """Wait for what is being written and let the threads go."""
        for pool in (self._reader, self._decoders, self._disk):
            pool.shutdown(cancel_futures=True)

    async def run(self) -> None:
        """Ask for everything that is not settled. Raises `InputError` when the disk is full."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(NAME_THREADS, "fetch-names"))
        self._changed = asyncio.Event()
        try:
            async with Client(self._options) as self._client, asyncio.TaskGroup() as group:
                await self._keep_busy(group)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _keep_busy(self, group: asyncio.TaskGroup) -> None:
        stop = time.monotonic() + 60 * self._options.minutes if self._options.minutes is not None else float("inf")
        rows = self._survey.walk()
        reading: asyncio.Task[bool] | None = None
        more, running = True, 0

        def ended(task: asyncio.Task[None]) -> None:
            nonlocal running
            running -= 1
            self._changed.set()

        while True:
            self._changed.clear()
            now = time.monotonic()
            while running < self._options.connections and now < stop and (found := self._schedule.start(now)):
                running += 1
                group.create_task(self._step(*found)).add_done_callback(ended)
            if reading is not None and reading.done():
                more, reading = reading.result(), None
            if more and reading is None and len(self._schedule) < self._options.window and now < stop:
                reading = group.create_task(self._read(rows))
                reading.add_done_callback(lambda _: self._changed.set())
            idle = running == 0 and reading is None
            if idle and (now >= stop or not (more or len(self._schedule))):
                return
            soon = self._schedule.next_time() if running < self._options.connections else float("inf")
            await self._wait(min(soon, stop) if now < stop else float("inf"))

    async def _wait(self, until: float) -> None:
        """Until something changes, or until a point in time."""
        left = until - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.0) if left != float("inf") else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    # ------------------------------------------------------------ the table

    async def _read(self, rows: Iterator[Wanted | Refused]) -> bool:
        """Take some rows from the table; says whether there may be more."""
        loop = asyncio.get_running_loop()
        taken = await loop.run_in_executor(self._reader, lambda: list(islice(rows, READ_ROWS)))
        lines: list[Line] = []
        ledger = self._output.ledger
        for row in taken:
            if isinstance(row, Refused):
                if ledger.reason(int(ledger.status[row.row])) != row.why.reason:
                    lines.append({"row": row.row, "id": row.why.id, "status": "failed", "reason": row.why.reason})
                    lines[-1]["detail"] = row.why.detail[:300]
                self._done += 1
            elif self._is_settled(row):
                self._done += 1 + len(row.others)
            else:
                self._schedule.add(Job(row.row, row.url, row.sample, row.others, row.url))
        if lines:
            await loop.run_in_executor(self._disk, self._output.note, lines)
        self._tell()
        return len(taken) == READ_ROWS

    def _is_settled(self, row: Wanted) -> bool:
        codes = [int(self._output.ledger.status[number]) for number in (row.row, *(n for n, _ in row.others))]
        failed = self._output.ledger.reason(codes[0])
        return codes[0] == FETCHED or (OPEN not in codes and failed not in self._retried)

    # ------------------------------------------------------------ one step of one job

    async def _step(self, host: Host, job: Job) -> None:
        """One request for a job, and what follows from it: kept, failed, to be tried again, or moved."""
        started, answer, failure = time.monotonic(), None, None
        if (closed := shut_reason(host, started)) is not None:
            self._schedule.finish(host)
            await self._fail(job, Failed(*closed))
            return
        try:
            async with asyncio.timeout(max(self._options.deadline - job.spent, 0.001)):
                answer = await self._ask(host, job)
        except Failed as error:
            failure = error
        except TimeoutError:
            failure = Failed("deadline passed", f"{self._options.deadline:g} s in all")
        now = time.monotonic()
        job.spent += now - started
        note_end(host, failure.reason if failure is not None else None, now)
        if failure is not None:
            self._leave_alone(host, failure, now)
        self._schedule.finish(host)
        if answer is not None and answer.moved_to is not None:
            failure = self._move(job, answer)
            if failure is None:
                return
        if failure is None and answer is not None:
            failure = await self._keep(job, answer)
        if failure is not None:
            await self._retry_or_fail(host, job, failure)

    async def _ask(self, host: Host, job: Job) -> Answer:
        if self._options.robots:
            if host.robots is None:
                self.requests += 1
                host.robots = await self._client.robots(host.origin)
            if not host.robots.allows(job.at):
                raise Failed("refused by robots.txt", job.at[:200])
        self.requests += 1
        return await self._client.picture(job.at)

    def _leave_alone(self, host: Host, failure: Failed, now: float) -> None:
        """Let a host rest for as long as it asks, or until its robots.txt may be there; or give it up for this run."""
        if failure.wait is not None and failure.wait > self._options.longest_wait:
            host.shut = (now + failure.wait, failure.reason, f"{host.origin} asks to wait {failure.wait:.0f} s")
        elif failure.wait is not None:
            host.ready_at = max(host.ready_at, now + failure.wait)
        if self._options.robots and host.robots is None:  # nothing is asked of it before its rules are known
            host.probes += 1
            host.ready_at = max(host.ready_at, now + self._options.backoff * 2 ** (host.probes - 1))
            lasting = failure.reason not in PASSING or failure.reason == "deadline passed"
            if lasting or host.probes >= self._options.attempts:
                host.shut = host.shut or (now + GIVEN_UP_SECONDS, failure.reason, failure.detail)

    def _move(self, job: Job, answer: Answer) -> Failed | None:
        """Follow a redirect, which waits for its turn at the host that it leads to."""
        assert answer.moved_to is not None
        job.hops.append(job.at)
        if answer.moved_to in job.hops:
            return Failed("redirect loop", f"back to {answer.moved_to[:200]}", answer.status)
        if len(job.hops) > self._options.redirects:
            return Failed("too many redirects", f"more than {self._options.redirects}", answer.status)
        job.at = answer.moved_to
        self._schedule.add(job)
        return None

    async def _keep(self, job: Job, answer: Answer) -> Failed | None:
        loop = asyncio.get_running_loop()
        try:
            sha256 = await loop.run_in_executor(self._decoders, prove, answer.body, self._options.max_pixels)
        except Failed as error:
            error.status = answer.status
            return error
        first = self._line(job, "fetched", answer.status)
        first |= {"bytes": len(answer.body), "sha256": sha256}
        lines = [first, *({"row": n, "id": s.id, "status": "merged", "into": job.row} for n, s in job.others)]
        for line in lines[1:]:
            line["host"] = first["host"]
        await loop.run_in_executor(self._disk, self._output.keep, lines, _sample(job, answer.body))
        self._settled(job)
        return None

    async def _retry_or_fail(self, host: Host, job: Job, failure: Failed) -> None:
        job.attempts += 1
        hopeless = failure.reason not in PASSING or failure.reason == "deadline passed" or host.shut is not None
        if hopeless or job.attempts >= self._options.attempts:
            await self._fail(job, failure)
            return
        jitter = random.Random(f"{job.row}/{job.attempts}").uniform(0.5, 1.5)
        pause = self._options.backoff * 2 ** (job.attempts - 1) * jitter
        job.at, job.hops = job.url, []
        self._schedule.add_later(job, time.monotonic() + max(pause, failure.wait or 0.0))

    async def _fail(self, job: Job, failure: Failed) -> None:
        line = self._line(job, "failed", failure.status) | {"reason": failure.reason, "detail": failure.detail[:300]}
        lines = [line, *(line | {"row": number, "id": sample.id} for number, sample in job.others)]
        await asyncio.get_running_loop().run_in_executor(self._disk, self._output.note, lines)
        self._settled(job)

    def _line(self, job: Job, status: str, http: int | None) -> Line:
        return {
            "row": job.row,
            "id": job.sample.id,
            "url": job.url,
            "host": host_of(job.url),
            "status": status,
            "http": http,
            "attempts": job.attempts + (status == "fetched"),
            "seconds": round(job.spent, 3),
            "time": round(time.time(), 3),
        }

    def _settled(self, job: Job) -> None:
        self._done += 1 + len(job.others)
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._survey.rows)


def _sample(job: Job, data: bytes) -> Sample:
    """The sample of a job's row with the captions of the others of its URL."""
    rows = [job.sample, *(sample for _, sample in job.others)]
    for sample in rows:
        sample.images, sample.url = [EncodedImage(None, job.url)], sample.url or job.url
    merge_by_picture(rows)  # into the first
    job.sample.images = [EncodedImage(data)]
    return job.sample
