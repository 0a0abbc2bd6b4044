"""`nebu diff`: what `nebu apply` would change, and whether in place or by a new life.

Exit codes are those of diff(1): 0 nothing differs, 1 something does, more than 1 it could not be told: 2 the command
or a file is wrong, 3, 4 and 5 as everywhere.
"""

from __future__ import annotations

import sys

from nebulous.cli import options
from nebulous.cli.drafts import Identity, drafts_or_secret, kind_and_name
from nebulous.cli.flags import ContainerFlags, spread
from nebulous.cli.lookup import connect
from nebulous.cli.plans import plan_all, show, tell_nothing, trouble
from nebulous.errors import NebulousError

DIFFERENT = 1


@spread
def command(
    flags: ContainerFlags,
    words: options.KindAndName = None,
    name: options.Name = None,
    namespace: options.Namespace = None,
    source: options.Source = None,
    value: options.Value = None,
    owner: options.Owner = None,
) -> int:
    """Show what `nebu apply` would change; 0: nothing, 1: something, 2 and more: it cannot be told."""
    from nebulous.cli import failures

    try:
        kind, named = kind_and_name(words or [], name)
        lookup = connect().within(namespace, owner)
        identity = Identity(named, namespace, owner)
        plans, code = plan_all(lookup, drafts_or_secret(kind, identity, flags, source, value))
    except NebulousError as error:
        return trouble(failures.report(error))
    show(plans, sys.stdout)
    if code:
        return trouble(code)
    if any(plan.outcome != "same" for plan in plans):
        return DIFFERENT
    tell_nothing(plans)
    return 0
