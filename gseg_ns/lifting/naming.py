"""What groups are called: the words of their masks, by majority."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from gseg_ns.lifting.votes import ViewVotes
from gseg_ns.masks import Said

MAJORITY = 0.25
"""Of all that is said of a group, its masks without words counted in, the part that its word has at least."""


def group_words(
    views: Iterable[ViewVotes], lookups: Sequence[Tensor], said: Sequence[Sequence[Said] | None], labels: Tensor
) -> dict[int, tuple[str, float]]:
    """The word of each group, and how sure its masks are of it.

    A mask speaks as loud as it shows of its group's Gaussians, times its score. Words that differ in case alone are the
    same.

    Args:
        views: what they say.
        lookups: group of each label of each view [L + 1] int64, 0 = none.
        said: of each view, what is known of its labels 1, 2, ...; None: nothing.
        labels: [N] int64, the group of each Gaussian.

    Returns:
        group -> word as most of its masks write it, and the mean score of the masks that say it by what they show; of
        groups whose masks agree on a word.
    """
    loudness: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    shown: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    spelt: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for view, lookup, known in zip(views, lookups, said, strict=True):
        if not known:
            continue
        group = torch.zeros(max(len(lookup), int(view.labels.max()) + 1 if len(view.labels) else 1), dtype=torch.long)
        group[: len(lookup)] = lookup
        own = (labels[view.gaussians.long()] == group[view.labels.long()]).double() * view.weights.double()
        sizes = torch.bincount(view.labels.long(), own, minlength=len(group)).tolist()
        for label, one in enumerate(known, start=1):
            if label >= len(lookup) or int(lookup[label]) == 0 or sizes[label] <= 0:
                continue
            key = one.word.casefold()
            loud = sizes[label] * max(one.score, 0.0)
            loudness[int(lookup[label])][key] += loud
            shown[int(lookup[label])][key] += sizes[label]
            spelt[key][one.word] += loud
    found = {}
    for number, words in loudness.items():
        total = sum(words.values())
        best = max((word for word in words if word), key=lambda word: (words[word], word), default="")
        if best and words[best] >= MAJORITY * total:
            spelling = max(spelt[best], key=lambda word: (spelt[best][word], word))
            found[number] = spelling, min(words[best] / shown[number][best], 1.0)
    return found


def numbered(words: Mapping[int, str], sizes: Mapping[int, int], others: Collection[str] = ()) -> dict[int, str]:
    """Names that differ: of several groups of one word the largest has it alone, the others with a number from 2.

    Args:
        words: group -> word.
        sizes: group -> how large it is.
        others: names that are taken already.
    """
    counts: dict[str, int] = defaultdict(int)
    taken = set(words.values()) | set(others)
    names = {}
    for group in sorted(words, key=lambda group: (-sizes.get(group, 0), group)):
        word = words[group]
        counts[word] += 1 if counts[word] or word not in others else 2
        name = word
        while counts[word] > 1 and (name := f"{word} {counts[word]}") in taken:
            counts[word] += 1
        taken.add(name)
        names[group] = name
    return names
