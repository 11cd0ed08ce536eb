"""Is a report's diagnosis the one that the fault's author wrote down?"""

import re


def cause_is(expected: str, found: str | None) -> bool:
    """All the codes of one of the accepted answers and no other; "+" joins, "|" separates."""
    return found is not None and set(found.split("+")) in [
        set(answer.split("+")) for answer in expected.split("|")
    ]


def first_is(expected: str, found: str | None) -> bool:
    """One of the accepted equations, or, written in whatever way, one of the accepted paths."""
    answers = [re.findall(r"\w+", answer) for answer in expected.split("|")]
    return re.findall(r"\w+", found or "") in answers
