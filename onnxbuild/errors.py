"""The errors a user can cause, as data: place, fact and hint.

Knows nothing of files or YAML: whoever finds a problem fills in the place.
`cli` turns these classes into text and exit codes; nothing else prints them.
"""

from __future__ import annotations

from msgspec import Struct


class Problem(Struct, frozen=True, order=True):
    """One thing that is wrong with a recipe or a command line.

    `path`, `line` and `column` say where (1-based; `path` as the user typed it, "" for the command line), `where` is the
    dotted key of the recipe ("export.dynamic_axes"), `fact` what is wrong, `hint` what to do about it.
    """

    path: str
    line: int
    column: int
    where: str
    fact: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}: " if self.line else f"{self.path}: " if self.path else ""
        where = f"{self.where}: " if self.where else ""
        hint = f"\n    hint: {self.hint}" if self.hint else ""
        return f"{place}{where}{self.fact}{hint}"


class UserError(Exception):
    """The recipe or the command line is wrong: exit code 2. All problems come at once.

    `others_went_on` says that what has no problems was done all the same.
    """

    def __init__(self, *problems: Problem, others_went_on: bool = False) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.others_went_on = others_went_on


def usage(fact: str, hint: str = "") -> UserError:
    """A problem with the command line or the environment, which has no place in a recipe."""
    return UserError(Problem("", 0, 0, "", fact, hint))


class StageError(Exception):
    """A stage could not do what the recipe asks: exit code 1.

    `fact` says what went wrong, in words that name the axis, file, operator or output; `hint` what the user can change.
    """

    def __init__(self, fact: str, hint: str = "") -> None:
        super().__init__(fact)
        self.fact = fact
        self.hint = hint


class LackError(StageError):
    """The machine has too little of something, such as memory, for a stage: elsewhere, or later, it may do."""


class RefusalError(StageError):
    """A stage says no, and would say the same of these inputs and options every time, whatever the machine: no question of
    memory, files or time. It is kept in the store like a result, and not found out again.
    """
