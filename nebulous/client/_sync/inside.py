# Made of _async/inside.py by `make client`; change that file, not this one.
"""What is done inside of a running container, through the typed client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nebulous.client._sync import waits
from nebulous.client._sync.api import Api
from nebulous.client._sync.aside import aside
from nebulous.client.executing import Ends, Executed, Execution, Taker
from nebulous.client.replies import Container, record
from nebulous.client.scope import Scope
from nebulous.client.wire import Place
from nebulous.models.platforms import Usage
from nebulous.waiting import Limit

PLURAL = "containers"


class Inside:
    """Where a container is, and what can be done in it."""

    def __init__(self, api: Api, scope: Scope) -> None:
        self._api, self._scope = api, scope

    def exec(
        self,
        container: Container | str,
        command: str | Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        stdout: Taker | None = None,
        stderr: Taker | None = None,
        limit: Limit = None,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> Executed:
        """Run a further command in a running container to its end; like `subprocess.run`.

        It has no terminal: `nebu exec -it` gives one. Cancelling, or leaving in any other way, ends the command.

        Args:
            container: Which one.
            command: A line for the container's shell, or a program and its arguments.
            stdin: Its input; pieces are read in another thread.
            stdout: Called with what it writes, as it comes, in another thread; default it is kept for the result.
            stderr: Likewise.
            limit: How long it may take; a number is seconds.
            namespace: Of a name.
            owner: Of a name.

        Raises:
            Conflict: Nothing runs in it.
            NotReady: It still ran after the limit, and was ended.
            Unavailable: The connection broke, and the command was ended with it.
        """
        place = self._living(container, namespace, owner)
        execution = Execution(self._api, place, command, Ends(stdin, stdout, stderr), limit)
        try:
            return aside(execution)
        finally:
            aside(execution.close)

    def stats(self, container: Container | str, *, namespace: str | None = None, owner: str | None = None) -> Usage:
        """What it uses at this moment; asked of its machine, which may take two seconds.

        Raises:
            Conflict: Nothing runs that could be measured.
            Rejected: Its platform does not tell.
        """
        return record(Usage, self._api.stats(self._living(container, namespace, owner)))

    def _place(self, container: Container | str, namespace: str | None = None, owner: str | None = None) -> Place:
        if isinstance(container, str):
            return self._scope.place(PLURAL, container, namespace, owner)
        metadata = container.metadata
        return Place(PLURAL, metadata.name, metadata.namespace, metadata.owner)

    def _living(self, container: Container | str, namespace: str | None, owner: str | None) -> Place:
        """Where it is; a `Container` only as long as its own life has the name.

        Raises:
            NotFound: That life is over.
        """
        place, life = self._place(container, namespace, owner), life_of(container)
        if life and (self._api.get(place))["metadata"]["id"] != life:
            raise waits.over(container)
        return place


def life_of(container: Container | str) -> str:
    """The one life that is meant; "" is whichever has the name."""
    return "" if isinstance(container, str) else container.metadata.id
