"""What a pod publishes in its metrics: pairs of series of which one shows what is up, the other why the rest is not.

Pure. No text of a pod is passed on, because pods run the user's code: a kind is one of those that the caller knows.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from agent_operator.controller.status.settling import UP, Reading

OTHER = "other"
"""A kind that the operator does not know, or none."""

_LABELS_AND_VALUE = r"\{([^{}\n]{1,256})\} ([0-9.e+-]{1,32})$"
_LABEL = re.compile(r'([a-z_]{1,32})="([-a-z0-9_]{1,64})"(?:,|$)')
_HASH_BITS = 48


def reading_of(metrics: str, series: str, label: str, kinds: Collection[str]) -> Reading:
    """Return what a pod's metrics report of what it uses; empty for images that do not report it.

    Args:
        metrics: the metrics, in Prometheus' text format.
        series: the name of the two series without `_up` and `_failing`.
        label: the label that has the name of what is up or not. The second series also has `kind`.
        kinds: the kinds that are known.
    """
    up = {labels[label]: value == 1 for labels, value in _samples(metrics, f"{series}_up") if label in labels}
    failing = {
        labels[label]: labels["kind"]
        for labels, value in _samples(metrics, f"{series}_failing")
        if value == 1 and labels.keys() >= {label, "kind"} and labels["kind"] in kinds
    }
    return {name: UP if is_up else failing.get(name, OTHER) for name, is_up in up.items()}


def hashes_in(metrics: str, series: str, label: str) -> Reading:
    """Return the hashes, in hexadecimal, that a pod's metrics have in a series, by the value of its label."""
    found = ((labels[label], value) for labels, value in _samples(metrics, series) if label in labels)
    return {
        name: f"{int(value):0{_HASH_BITS // 4}x}"
        for name, value in found
        if value.is_integer() and 0 <= value < 1 << _HASH_BITS
    }


def _samples(metrics: str, series: str) -> Iterator[tuple[Mapping[str, str], float]]:
    for labels, value in re.findall(f"^{series}{_LABELS_AND_VALUE}", metrics, re.MULTILINE):
        try:
            yield dict(_LABEL.findall(labels)), float(value)
        except ValueError:
            continue
