"""Text → space-separated terms for full-text search, in any language Quire reads.

Milvus's analyzers take a whole Japanese or Korean run for one token, so runs of Chinese, Japanese
and Korean characters become overlapping character pairs (bigrams) here, and the full-text field
only splits on spaces. Queries pass through the same function.
"""

import re
import unicodedata
from collections.abc import Iterator

_CJK = "\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_RUN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")


def runs(text: str) -> Iterator[tuple[int, str]]:
    """Yield start and text of each word, or run of Chinese, Japanese or Korean characters."""
    for match in _RUN.finditer(text):
        yield match.start(), match[0]


def to_terms(text: str) -> str:
    """NFKC-normalised lower-case terms, space-separated, in the order of the text."""
    terms: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text).lower()):
        if _IS_CJK.match(run) and len(run) > 1:
            terms.extend(run[i : i + 2] for i in range(len(run) - 1))
        else:
            terms.append(run)
    return " ".join(terms)


def cut_utf8(text: str, limit_bytes: int) -> str:
    """The longest start of a text that fits into so many bytes of UTF-8; half characters as ?."""
    return text.encode(errors="replace")[:limit_bytes].decode(errors="ignore")
