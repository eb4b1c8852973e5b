"""All tasks of the corpus. A new family is a file with a tuple TASKS, and a line here."""

from benchmarks.corpus import audio, digits, fashion, files, pages, photos, text
from benchmarks.corpus.base import Task

TASKS: tuple[Task, ...] = (
    *digits.TASKS,
    *fashion.TASKS,
    *photos.TASKS,
    *pages.TASKS,
    *text.TASKS,
    *files.TASKS,
    *audio.TASKS,
)


def task_named(name: str) -> Task:
    """The task of this name; KeyError when there is none."""
    return {task.name: task for task in TASKS}[name]
