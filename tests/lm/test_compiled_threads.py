import threading

from musicgen_rl.lm.compiled_threads import run_threads


def test_the_caller_is_thread_zero_and_helpers_are_the_rest():
    seen: dict[int, str] = {}
    all_came = threading.Barrier(3)

    def work(thread: int, argument: str) -> None:
        seen[thread] = argument + threading.current_thread().name
        all_came.wait(10)

    run_threads(work, 3, "in ")
    assert seen.keys() == {0, 1, 2}
    assert seen[0] == "in " + threading.current_thread().name
    assert len(set(seen.values())) == 3


def test_one_thread_is_only_the_caller():
    seen = []
    run_threads(lambda thread: seen.append((thread, threading.current_thread())), 1)
    assert seen == [(0, threading.current_thread())]


def test_a_busy_helper_is_not_waited_for():
    release, entered = threading.Event(), threading.Event()

    def block(thread: int) -> None:
        if thread:
            entered.set()
            release.wait(10)

    run_threads(block, 2)
    assert entered.wait(10)
    count = []
    for _ in range(20):
        run_threads(lambda thread: count.append(thread), 2)
    assert count == [0] * 20  # the helper is still busy, and is left one job at most
    release.set()
