"""Requests signed for AWS, as Amazon Managed Service for Prometheus wants them, by botocore."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import yarl

from sidecar.adapters.http_config import SigV4
from sidecar.types import Unavailable

SESSION = "promantis"
"""The name of a session in which a role is taken on: seen in CloudTrail."""


class Signer:
    """Signs with credentials as AWS' SDKs find them, which are renewed before they end."""

    def __init__(self, config: SigV4) -> None:
        self._config = config
        self._lock = asyncio.Lock()
        self._found: tuple[Any, str] | None = None

    async def sign(
        self, method: str, url: yarl.URL, params: list[tuple[str, str]], body: bytes
    ) -> dict[str, str]:
        """Headers for one request; Unavailable without credentials. A thread asks for them, as AWS may be slow."""
        return await asyncio.to_thread(self._signed, method, url, params, body, await self._credentials())

    async def _credentials(self) -> tuple[Any, str]:
        async with self._lock:
            if self._found is None:
                self._found = await asyncio.to_thread(partial(_find, self._config))
            return self._found

    def _signed(
        self, method: str, url: yarl.URL, params: list[tuple[str, str]], body: bytes, found: tuple[Any, str]
    ) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, ClientError

        credentials, region = found
        asked = [*url.query.items(), *params]
        request = AWSRequest(method, str(url.with_query(None)), data=body, params=asked)
        try:
            SigV4Auth(credentials.get_frozen_credentials(), self._config.service_name, region).add_auth(
                request
            )
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"sigv4: {error}") from None
        return dict(request.headers.items())


def _find(config: SigV4) -> tuple[Any, str]:
    from botocore.config import Config
    from botocore.credentials import (
        AssumeRoleCredentialFetcher,
        Credentials,
        DeferredRefreshableCredentials,
    )
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        session = Session(profile=config.profile)
        region = config.region or session.get_config_variable("region")
        if not region:
            raise Unavailable("sigv4: no region is given or found in AWS' own settings")
        if config.access_key and config.secret_key:
            credentials: Any = Credentials(config.access_key, config.secret_key)
        else:
            credentials = session.get_credentials()
        if credentials is None:
            raise Unavailable("sigv4: AWS' own ways find no credentials")
        if config.role_arn:
            outside = {"ExternalId": config.external_id} if config.external_id else {}
            fips = {"config": Config(use_fips_endpoint=True)} if config.use_fips_sts_endpoint else {}
            sts = partial(session.create_client, region_name=region, **fips)
            named = {"RoleSessionName": SESSION, **outside}
            fetcher = AssumeRoleCredentialFetcher(sts, credentials, config.role_arn, named)
            credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    except BotoCoreError as error:
        raise Unavailable(f"sigv4: {error}") from None
    return credentials, str(region)
