"""What a report says of files that are no part of the results, and of labels without effect."""

from collections.abc import Sequence
from dataclasses import dataclass

from hebbcore.labelling.page import section, shown

_REASONS, _NAMES = 24, 12  # that are listed, and files of each


@dataclass(frozen=True)
class LeftOut:
    """What the images of a work lack.

    Parameters
    ----------
    files : sequence of (str, str)
        Names of files that were left out, and why, the most important first.
    labels : sequence of (str, str)
        Such files that the user has labelled, and their labels.
    """

    files: Sequence[tuple[str, str]] = ()
    labels: Sequence[tuple[str, str]] = ()

    def __bool__(self) -> bool:
        """Whether there is something to tell."""
        return bool(self.files)

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Return {anchor: (title, HTML, …)} of a section of some dozens of lines; nothing if nothing was left out."""
        return {"left": ("Left out", *self._files(), *self._labels())} if self else {}

    def sections(self) -> list[str]:
        """Return it as HTML."""
        return [section(anchor, *texts) for anchor, texts in self.parts().items()]

    def _files(self) -> list[str]:
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.files:
            by_reason.setdefault(reason, []).append(name)
        lines = [
            f"<li>{shown(reason)} ({len(names):,}): {_listed(names)}</li>"
            for reason, names in list(by_reason.items())[:_REASONS]
        ]
        if more := sum(map(len, list(by_reason.values())[_REASONS:])):
            lines.append(f"<li>other reasons ({more:,}): report.json, beside the shards of the images, names them</li>")
        head = f"<p>Files that are not among these images ({len(self.files):,}), by reason:</p>"
        return [head, f"<ul>{''.join(lines)}</ul>"]

    def _labels(self) -> list[str]:
        if not self.labels:
            return []
        listed = _listed([f"{name} ({label})" for name, label in self.labels])
        return [f"<p>Labels without effect, of such files ({len(self.labels):,}): {listed}.</p>"]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(map(shown, names[:_NAMES])) + (f" and {more:,} more" if more > 0 else "")
