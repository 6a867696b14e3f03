"""The tokenizer of quire-tiny: byte-level BPE over NFKC lower-cased text.

A bag of words is what the text tower starts from, so the same word must be the same tokens
wherever it stands: a space is put before every word, blank space is dropped elsewhere, and runs of
Han, kana and Hangul are cut by script. Decoding therefore gives lower-cased, re-spaced text.
"""

from collections.abc import Iterable

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

END_OF_TEXT = "<|endoftext|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# The chat template's role lines are tokens of their own, so that the word "user" in a text is not.
ROLE_TOKENS = ("system\n", "user\n", "assistant\n")

# A space follows each of these, so that the word behind it begins like any other. (An insertion at
# a zero-width match would say it in one rule, but panics in tokenizers 0.22.)
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»‘’“”–—•·…、。「」『』【】・"

_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー"
_WORDS = "|".join(
    (
        rf" ?[\p{{L}}\p{{M}}&&[^{_SCRIPTS}]]+",
        r" ?\p{N}{1,4}",
        r"[\p{Han}]+",
        r"[\p{Hiragana}]+",
        r"[\p{Katakana}ー]+",
        r"[\p{Hangul}]+",
        r"\s+(?=\s)",
        r"\s",
        r"[^\s\p{L}\p{N}]",
    )
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train on `texts`; the vocabulary holds `vocab_size` tokens, the special ones included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            *(normalizers.Replace(mark, f"{mark} ") for mark in _PUNCTUATION),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Prepend(" "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.Split(Regex(r"^\s+$"), behavior="removed"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[
            AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS
        ]
        + [AddedToken(token, normalized=False, special=False) for token in ROLE_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=32,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}",
        pair=f"$A $B {END_OF_TEXT}",
        special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))],
    )
    return tokenizer
