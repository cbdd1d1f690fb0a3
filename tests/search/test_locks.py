"""Readers share, writers are alone, and neither waits for ever."""

import threading
import time

from diptych.search.locks import ReadWriteLock, only_process


def run(*targets):
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "someone waits for ever"


def test_readers_are_together_and_writers_alone():
    lock, inside, seen = ReadWriteLock(), {"r": 0, "w": 0}, []
    guard, together = threading.Lock(), threading.Barrier(3)

    def enter(kind, change):
        with guard:
            inside[kind] += change
            seen.append((inside["r"], inside["w"]))

    def read():
        with lock.read():
            together.wait(10)  # three readers are inside at once, or this breaks
        for _ in range(50):
            with lock.read():
                enter("r", 1)
                time.sleep(1e-4)
                enter("r", -1)

    def write():
        for _ in range(50):
            with lock.write():
                enter("w", 1)
                time.sleep(1e-4)
                enter("w", -1)

    run(read, read, read)
    run(read, read, read, write, write)
    assert max(writers for _, writers in seen) == 1
    assert not [state for state in seen if state[0] and state[1]], "a reader beside a writer"


def test_a_writer_gets_in_between_readers_who_never_stop():
    lock, stop = ReadWriteLock(), threading.Event()

    def read():
        while not stop.is_set():
            with lock.read():
                time.sleep(1e-3)

    def write():
        time.sleep(0.02)
        with lock.write():
            stop.set()

    run(read, read, read, write)


def test_a_reader_gets_in_between_writes_that_never_stop():
    lock, stop = ReadWriteLock(), threading.Event()

    def write():
        while not stop.is_set():
            with lock.write():
                time.sleep(1e-3)

    def read():
        time.sleep(0.02)
        with lock.read():
            stop.set()

    run(write, write, read)


def test_an_error_inside_lets_go():
    lock = ReadWriteLock()
    for enter in (lock.read, lock.write, lock.read):
        try:
            with enter():
                raise KeyError
        except KeyError:
            pass
    run(lambda: lock.write().__enter__())


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    order = []

    def hold(name):
        with only_process(tmp_path / "new"):
            order.append(f"{name} in")
            time.sleep(0.05)
            order.append(f"{name} out")

    run(lambda: hold("a"), lambda: hold("b"))
    assert order in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])
