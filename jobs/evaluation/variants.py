"""Variants: the settings as they are, and changes of them that are compared with that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import InvalidInput
from cluster.settings import Settings, load_settings

AS_SET = "as set"
# What a search takes as it comes: variants that differ in nothing else share their models.
OF_SEARCHES = ("dense_weight", "fusion", "rerank_k", "top_k", "sort")


@dataclass(frozen=True)
class Variant:
    """Settings to search with, by what was changed of them."""

    name: str
    settings: Settings

    def opened_with(self) -> Settings:
        """Return the settings as far as a retriever depends on them."""
        defaults = {name: Settings.model_fields[name].default for name in OF_SEARCHES}
        return self.settings.model_copy(update=defaults)


def read_variants(
    changes: Sequence[str], flags: Mapping[str, object], *, depth: int
) -> list[Variant]:
    """Return the variants of `--compare` behind the settings as they are.

    changes: `rerank=none` or `mode=hybrid,dense_weight=0.3` each. `depth`: pages that every search
    returns. Raises InvalidInput.
    """
    variants = [make_variant(AS_SET, {}, flags, depth)]
    for text in changes:
        variants.append(make_variant(text, parse_changes(text), flags, depth))
    names = [variant.name for variant in variants]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidInput(f"--compare {', '.join(twice)} is given twice")
    return variants


def make_variant(
    name: str, changes: Mapping[str, object], flags: Mapping[str, object], depth: int
) -> Variant:
    """Return the settings with changes. Raises InvalidInput."""
    return Variant(name, load_settings(**{**flags, **changes, "top_k": depth}))


def parse_changes(text: str) -> dict[str, str]:
    """Return settings by name from `name=value,name=value`. Raises InvalidInput."""
    changes = {}
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        name = name.replace("-", "_")
        if not equals or name not in Settings.model_fields or name == "top_k":
            raise InvalidInput(
                f"--compare {text!r}: write a setting and its value, such as rerank=none or "
                "mode=text (quire settings lists them)"
            )
        changes[name] = value
    return changes
