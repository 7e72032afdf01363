"""Which series of another watch belongs to a series, by their labels; pure."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.signals.ingest import series
from sidecar.types import Labels


def partners(targets: Sequence[bytes], others: Sequence[bytes]) -> list[int]:
    """For each target the index of the other series that belongs to it, -1 where none clearly does.

    The one whose labels are all on the target, the most of them first; else the only one that agrees on every label
    that both have, the most of them first; else the one without labels.

    >>> partners([b'{"pod":"a","job":"x"}'], [b'{"job":"y"}', b'{"job":"x"}', b'{}'])
    [1]
    >>> partners([b'{"pod":"a","code":"500"}'], [b'{"pod":"a","zone":"1"}', b'{"pod":"b","zone":"1"}'])
    [0]
    """
    index = _Index([series.labels(key) for key in others])
    return [index.partner(series.labels(key)) for key in targets]


class _Index:
    """Series by the values of some of their labels."""

    def __init__(self, found: Sequence[Labels]) -> None:
        self._labels = found
        self._names = sorted({tuple(name for name, _ in labels) for labels in found}, key=len, reverse=True)
        self._by: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[tuple[str, ...], list[int]]] = {}

    def partner(self, target: Labels) -> int:
        said = dict(target)
        shared = [(names, tuple(name for name in names if name in said)) for names in self._names]
        whole = [(names, same) for names, same in shared if names == same and names]
        for names, same in whole:
            if found := self._find(names, same, said):
                return found[0]
        most = max((len(same) for names, same in shared if self._find(names, same, said)), default=0)
        best = [i for names, same in shared if len(same) == most > 0 for i in self._find(names, same, said)]
        if len(best) == 1:
            return best[0]
        alone = self._find((), (), said) if () in self._names else []
        return alone[0] if alone else -1

    def _find(self, names: tuple[str, ...], same: tuple[str, ...], said: dict[str, str]) -> list[int]:
        """Series with exactly these label names that agree on `same`."""
        by = self._by.get((names, same))
        if by is None:
            by = self._by[names, same] = {}
            for i, labels in enumerate(self._labels):
                mine = dict(labels)
                if tuple(mine) == names:
                    by.setdefault(tuple(mine[name] for name in same), []).append(i)
        return by.get(tuple(said[name] for name in same), [])
