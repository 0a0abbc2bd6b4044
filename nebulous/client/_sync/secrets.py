# Made of _async/secrets.py by `make client`; change that file, not this one.
"""Secrets through the typed client."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from nebulous.client._sync.api import Api
from nebulous.client.replies import Secret
from nebulous.client.scope import Scope
from nebulous.models import asked
from nebulous.models.secrets import SecretSpec

PLURAL = "secrets"


class Secrets:
    """What can be done with secrets: values for `env_vars`, encrypted before anything stores them."""

    def __init__(self, api: Api, scope: Scope) -> None:
        self._api, self._scope = api, scope

    def create(
        self,
        name: str,
        value: str,
        *,
        namespace: str | None = None,
        owner: str | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Secret:
        """Create a secret; the same value again gives the same one.

        Raises:
            InvalidRequest: The name or the value cannot be one.
            Conflict: The name belongs to a secret with another value.
        """
        where = {"name": name, "namespace": namespace or self._scope.namespace, "owner": owner, "labels": labels}
        metadata = {key: dict(said) if isinstance(said, Mapping) else said for key, said in where.items() if said}
        secret = asked.checked(SecretSpec, {"metadata": metadata, "value": value})
        organization = self._scope.asked_of(secret.metadata)
        made = self._api.create(PLURAL, asked.document(secret), organization, idempotency_key)
        return Secret.of(made.resource)

    def get(self, name: str, *, namespace: str | None = None, owner: str | None = None) -> Secret:
        """One secret, without its value.

        Raises:
            NotFound: There is none (any more).
        """
        return Secret.of(self._api.get(self._scope.place(PLURAL, name, namespace, owner)))

    def reveal(self, name: str, *, namespace: str | None = None, owner: str | None = None) -> str:
        """The value in clear; only for admins of the organization.

        Raises:
            NotFound: There is none (any more).
            Forbidden: You are no admin.
        """
        place = self._scope.place(PLURAL, name, namespace, owner)
        return str((self._api.get(place, reveal=True))["value"])

    def list(self, *, namespace: str | None = None, owner: str | None = None) -> Generator[Secret]:
        """The secrets of the organization, newest first, in all namespaces unless one is given."""
        filters = {"namespace": namespace, "owner": owner or self._scope.organization}
        for row in self._api.rows(PLURAL, **filters):
            yield Secret.of(row)

    def delete(self, name: str, *, namespace: str | None = None, owner: str | None = None) -> None:
        """Ask for its end, and return at once.

        Raises:
            NotFound: There is none.
        """
        self._api.delete(self._scope.place(PLURAL, name, namespace, owner))
