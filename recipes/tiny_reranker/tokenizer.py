"""The tokenizer of quire-tiny, with the reranker's markers as tokens of their own."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from recipes.tiny.architecture import token_id

QUERY_MARK = "<Query>:"
DOCUMENT_MARK = "<Document>:"
YES, NO = "yes", "no"


def reranker_tokenizer(checkpoint: Path) -> Tokenizer:
    """The tokenizer of a quire-tiny checkpoint, which closes on nothing and knows the markers.

    Raises:
        KeyError: the vocabulary lacks "yes" or "no".
    """
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.add_tokens(
        [AddedToken(mark, normalized=False) for mark in (QUERY_MARK, DOCUMENT_MARK)]
    )
    for answer in (YES, NO):
        token_id(tokenizer, answer)
    tokenizer.post_processor = None
    return tokenizer
