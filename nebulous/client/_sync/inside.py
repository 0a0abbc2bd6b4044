# Made of _async/inside.py by `make client`; change that file, not this one.
"""What is done inside of a running container, through the typed client."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from nebulous.client._sync import copies
from nebulous.client._sync.aside import aside
from nebulous.client._sync.places import Places
from nebulous.client.executing import Ends, Executed, Execution, Taker, checked
from nebulous.client.replies import Container, record
from nebulous.errors import Unreachable
from nebulous.models.platforms import Usage
from nebulous.waiting import Limit


class Inside(Places):
    """What can be done in a container that has a machine."""

    def exec(
        self,
        container: Container | str,
        command: str | Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        stdout: Taker | None = None,
        stderr: Taker | None = None,
        limit: Limit = None,
        check: bool = False,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> Executed:
        """Run a further command in a running container to its end; like `subprocess.run`.

        It has no terminal: `nebu exec -it` gives one. Cancelling, or leaving in any other way, ends the command.

        Args:
            container: Which one.
            command: A line for the container's shell, or a program and its arguments.
            stdin: Its input; pieces are read in another thread, until it takes no more.
            stdout: Called with what it writes, as it comes, in another thread; default it is kept for the result.
            stderr: Likewise.
            limit: How long it may take, connecting included; a number is seconds.
            check: Raise `CommandFailed` for every exit code but 0.
            namespace: Of a name.
            owner: Of a name.

        Raises:
            Conflict: Nothing runs in it.
            NotReady: It still ran after the limit, and was ended; or the server had not answered.
            CommandFailed: With `check`.
            Unavailable: The connection broke, and the command was ended with it.
        """
        place = self._place(container, namespace, owner)
        execution = Execution(self._api, place, command, Ends(stdin, stdout, stderr), limit)
        try:
            self._living(container, namespace, owner, None if limit is None else execution.patience())
            done = aside(execution)
        except Unreachable as error:
            execution.check_time(error)
            raise
        finally:
            aside(execution.close)
        return checked(done, place.name) if check else done

    def stats(self, container: Container | str, *, namespace: str | None = None, owner: str | None = None) -> Usage:
        """What it uses at this moment; asked of its machine, which may take two seconds.

        Raises:
            Conflict: Nothing runs that could be measured.
            Rejected: Its platform does not tell.
        """
        return record(Usage, self._api.stats(self._living(container, namespace, owner)))

    def upload(
        self,
        container: Container | str,
        source: str | os.PathLike[str],
        path: str | os.PathLike[str],
        *,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> None:
        """Copy a file or folder of this machine into a container, by the rules of `docker cp`; never whole in memory.

        Args:
            container: Which one.
            source: On this machine; `FOLDER/.` is what is in the folder.
            path: In the container: a folder to put it in, or the name that it gets.
            namespace: Of a name.
            owner: Of a name.

        Raises:
            NotFound: There is no such container, nothing to copy, or no folder to put it in.
            Conflict: It has no machine, and so no files.
            Rejected: Something is in the way, or no space is left.
            InvalidRequest: `source` is a device, a pipe or a socket.
            Unavailable: The connection broke; some may be copied.
            OSError: Something cannot be read here.
        """
        place = self._living(container, namespace, owner)
        copies.upload(self._api, place, os.fspath(source), os.fspath(path))

    def download(
        self,
        container: Container | str,
        path: str | os.PathLike[str],
        target: str | os.PathLike[str] = ".",
        *,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> None:
        """Copy a file or folder of a container to this machine, by the rules of `docker cp`; never whole in memory.

        What comes is not trusted: nothing is written outside of the target.

        Args:
            container: Which one.
            path: In the container; `FOLDER/.` is what is in the folder.
            target: On this machine: a folder to put it in, or the name that it gets.
            namespace: Of a name.
            owner: Of a name.

        Raises:
            NotFound: There is no such container, nothing at that path, or no folder to put it in.
            Conflict: It has no machine, and so no files.
            Rejected: Something is in the way.
            InvalidRequest: It is a device, a pipe or a socket.
            PartlyCopied: Something would have left the target, and was left out.
            Unavailable: The connection broke; some may be copied.
            OSError: Something cannot be written here.
        """
        place = self._living(container, namespace, owner)
        copies.download(self._api, place, os.fspath(path), os.fspath(target))
