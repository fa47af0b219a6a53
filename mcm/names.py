"""Names: when two are the same for a reader, and how one is written where not every name can be."""

import unicodedata


def folded_name(name: str) -> str:
    """What two names share that differ only in case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name.casefold()).split())


def sayable(name: str) -> str:
    """The name with bytes that are not UTF-8 written out: no result file and no picture can carry them."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
