"""Options of neglabel: which words are held against the concepts."""

from typing import Annotated

import typer

from mcm.cli import options
from mcm.negatives import DEFAULT_GROUPS, NegativesChoice
from mcm.vocabularies import IMAGENET, load_vocabulary

NEGLABEL = "neglabel"
HASH_OF_SERVER = "the server's"

Vocabulary = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"For neglabel: where negative words come from. {IMAGENET} (default), a WordNet folder, or a "
        "text file with a word a line; on a server, one that it knows.",
    ),
]
Groups = Annotated[
    int | None,
    typer.Option(metavar="N", help=f"For neglabel: at most N groups of words; default {DEFAULT_GROUPS}."),
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="For neglabel: of the words' division into groups; default 0.")
]
DropNear = Annotated[
    bool,
    typer.Option("--drop-near", help="For neglabel: drop words with a cosine over 0.95 to a concept (CSP)."),
]


def negatives_of(
    score: str | None,
    vocabulary: str | None,
    groups: int | None,
    seed: int | None,
    drop_near: bool,
    *,
    on_server: bool,
) -> NegativesChoice | None:
    """The choice of negatives that the options describe; None for other scores than `neglabel`.

    What a server's vocabulary holds only the server knows: its hash is then HASH_OF_SERVER.

    Raises:
        InvalidInput: there is no such vocabulary; or the options go with another score.
    """
    if score != NEGLABEL:
        reason = f"goes with --score {NEGLABEL}"
        options.refuse(reason, vocabulary=vocabulary, groups=groups, seed=seed, drop_near=drop_near or None)
        return None
    spec = vocabulary or IMAGENET
    if on_server:
        name, words_hash = spec, HASH_OF_SERVER
    else:
        words = load_vocabulary(spec)
        name, words_hash = words.name, words.hash
    return NegativesChoice(
        name, words_hash, DEFAULT_GROUPS if groups is None else groups, seed or 0, drop_near
    )
