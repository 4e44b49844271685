"""The graph as a tree of rows, and large graphs folded into groups.

A stage stands below its *immediate dominator*: the nearest stage that all its paths come through. A stage with one child
(in the sense of: one stage it waits for) stands right below that one; a join stands where its branches parted, after
them, and is told what it waited for. So every stage is drawn once, and the rows run in the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

_ROOT = 0
# What a prefix becomes on the next line: branches that ended or led here are gone, the others go on.
_BELOW = str.maketrans({"├": "│", "└": " ", "↓": " ", "`": " ", "-": " ", "v": " "})


class Row(NamedTuple):
    """One row of the tree.

    Attributes:
        prefix: the lines that lead to it, such as `│ ├ `.
        members: indexes of the stages it stands for; several: a folded group.
        is_pick: whether it is one member of the folded group above it, shown because something is up with it.
        more: what is written below it: how many of its kind have no row.
    """

    prefix: str
    members: tuple[int, ...]
    is_pick: bool = False
    more: str = ""

    @property
    def below(self) -> str:
        """The lines that go on beside what is written below this row."""
        return self.prefix.translate(_BELOW)


class Lines(NamedTuple):
    """What the tree is drawn with, each two columns wide."""

    tee: str = "├ "
    corner: str = "└ "
    bar: str = "│ "
    next: str = "↓ "
    blank: str = "  "


UNICODE = Lines()
ASCII = Lines("|-", "`-", "| ", "v ")


def dominators(children_of: Sequence[Sequence[int]]) -> list[int]:
    """Each stage's immediate dominator + 1; 0 stands for the flow itself.

    `children_of` is in topological order. Jump pointers keep the search for common ancestors logarithmic, so that chains
    of 10,000 with many joins stay cheap.
    """
    parent, jump, depth = [_ROOT], [_ROOT], [0]

    def common(a: int, b: int) -> int:
        while a != b:
            if depth[a] < depth[b]:
                a, b = b, a
            if depth[a] > depth[b]:
                a = jump[a] if depth[jump[a]] >= depth[b] else parent[a]
            else:
                a, b = (jump[a], jump[b]) if jump[a] != jump[b] else (parent[a], parent[b])
        return a

    for children in children_of:
        above = children[0] + 1 if children else _ROOT
        for child in children:
            above = common(above, child + 1)
        far = jump[above]
        parent.append(above)
        jump.append(jump[far] if depth[above] - depth[far] == depth[far] - depth[jump[far]] else above)
        depth.append(depth[above] + 1)
    return parent[1:]


def rows(children_of: Sequence[Sequence[int]], lines: Lines = UNICODE, deepest: int = 12) -> list[Row]:
    """One row per stage. Branches deeper than `deepest` are no longer indented."""
    above = dominators(children_of)
    return _walk(above, [(index,) for index in range(len(above))], lines, deepest)


def folded(
    children_of: Sequence[Sequence[int]],
    kind_of: Callable[[int], Hashable],
    pick: Callable[[tuple[int, ...]], Sequence[int]],
    lines: Lines = UNICODE,
    deepest: int = 12,
) -> list[Row]:
    """One row per group of like stages: same kind below the same group. A chain of one kind folds into its first.

    Args:
        children_of: the graph, in topological order.
        kind_of: what must be equal for two stages to fold: the function's name.
        pick: which members of a group are worth a row of their own below it.
        lines: what to draw with.
        deepest: how deep branches are indented.
    """
    group_of: list[int] = []
    groups: list[list[int]] = []
    group_above: list[int] = []
    known: dict[tuple[int, Hashable], int] = {}
    for index, above in enumerate(dominators(children_of)):
        place = group_of[above - 1] + 1 if above else _ROOT
        kind = kind_of(index)
        if place and kind_of(groups[place - 1][0]) == kind:
            group = place - 1
        else:
            group = known.setdefault((place, kind), len(groups))
            if group == len(groups):
                groups.append([])
                group_above.append(place)
        groups[group].append(index)
        group_of.append(group)
    members = [tuple(group) for group in groups]
    return _walk(group_above, members, lines, deepest, pick)


def _walk(
    above: Sequence[int],
    members: Sequence[tuple[int, ...]],
    lines: Lines,
    deepest: int,
    pick: Callable[[tuple[int, ...]], Sequence[int]] = lambda _: (),
) -> list[Row]:
    """The rows in depth-first order, without recursion: chains may be 10,000 long."""
    below: list[list[int]] = [[] for _ in range(len(above) + 1)]
    for index, place in enumerate(above):
        below[place].append(index + 1)
    found: list[Row] = []
    # Each entry: node, the prefix of its row, the prefix that its own subtree continues with.
    stack = [(node, "", "") for node in reversed(below[_ROOT])]
    while stack:
        node, prefix, inner = stack.pop()
        group = members[node - 1]
        found.append(Row(prefix, group))
        followers = below[node]
        stem = lines.bar if followers else lines.blank
        found.extend(Row(inner + stem + lines.blank, (index,), True) for index in (pick(group) if len(group) > 1 else ()))
        # The only one below waits for nothing else, so it needs no branch: chains stay at one indentation.
        if len(followers) == 1:
            stack.append((followers[0], inner + lines.next, inner))
            continue
        is_deep = len(inner) >= 2 * deepest
        for position, follower in reversed(list(enumerate(followers))):
            last = position == len(followers) - 1
            branch = inner + (lines.corner if last else lines.tee)
            stack.append((follower, branch, inner if is_deep else inner + (lines.blank if last else lines.bar)))
    return found
