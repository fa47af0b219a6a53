"""When two names are the same for a reader."""

import unicodedata


def folded_name(name: str) -> str:
    """What two names share that differ only in case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name.casefold()).split())
