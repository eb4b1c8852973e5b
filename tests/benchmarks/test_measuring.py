import sys

from benchmarks.measuring import Limits, watch

ROOMY = 4 * 10**9


def python(code: str, limits: Limits) -> tuple[int, bool]:
    watched = watch([sys.executable, "-c", code], limits)
    return watched.code, watched.late


def test_a_process_within_its_limits_ends_by_itself() -> None:
    assert python("raise SystemExit(3)", Limits(60, ROOMY)) == (3, False)


def test_a_process_out_of_time_is_ended_with_its_children() -> None:
    # The child holds the pipe; if it lived on, so would the parent's wait for it.
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    watched = watch([sys.executable, "-c", child], Limits(1, ROOMY))
    assert (watched.code, watched.late) == (-9, True)
    assert watched.seconds < 60


def test_a_process_cannot_take_more_than_its_memory() -> None:
    hungry = "try: bytearray(3 * 10**9)\nexcept MemoryError: raise SystemExit(5)"
    assert python(hungry, Limits(60, 2 * 10**9)) == (5, False)
