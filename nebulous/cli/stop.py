"""`nebu stop`."""

from __future__ import annotations

from nebulous.cli import options
from nebulous.cli.actions import Choice, act


def command(
    names: options.Names = None,
    namespace: options.Namespace = None,
    labels: options.Labels = None,
    everything: options.All = False,
    yes: options.Yes = False,
    owner: options.Owner = None,
) -> int:
    """End the command and give the machine back; the row and the logs stay."""
    return act("stop", "stopping", Choice(names or [], labels or [], everything, yes), namespace, owner)
