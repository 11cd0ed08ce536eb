"""What somebody may have meant by a name that nothing has."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

NO_SYNONYMS: Mapping[str, str] = MappingProxyType({})


def meant(name: str, names: Iterable[str], synonyms: Mapping[str, str] = NO_SYNONYMS) -> str | None:
    """The nearest of `names`; `synonyms` has what others call them, in lower case.

    >>> from jaxnn.io.suggestion import meant
    >>> meant("ReLu", ["relu", "tanh"]), meant("swish", ["silu"], {"swish": "silu"})
    ('relu', 'silu')
    >>> meant("xyz", ["relu", "tanh"]) is None
    True
    """
    known = {name.lower(): name for name in names}
    known = {other: known.get(real, real) for other, real in synonyms.items()} | known
    close = get_close_matches(name.lower().replace("-", "_"), known, 1, 0.7)
    return known[close[0]] if close else None


def did_you_mean(
    name: str,
    names: Iterable[str],
    synonyms: Mapping[str, str] = NO_SYNONYMS,
    form: str = "{}",
) -> str:
    """The end of a message: "; did you mean silu?", or nothing where no name is near."""
    found = meant(name, names, synonyms)
    return "" if found is None else f"; did you mean {form.format(found)}?"
