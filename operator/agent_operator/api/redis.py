"""The Redis in which an agent stores its state."""

import re
from typing import Annotated

from pydantic import StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DataKey, ObjectName
from agent_operator.api.rules import Rule

# The address is written to a ConfigMap, which must not contain a secret. An address can contain one in its userinfo, or
# in an option of its query (redis-py: `password`, `username`, `ssl_password`, also percent-encoded). Only options that
# cannot contain a secret are therefore listed. The chart has the same expression in templates/validate/_validate.tpl.
_OPTIONS = (
    "client_name|db|health_check_interval|max_connections|protocol|retry_on_timeout|timeout|"
    "socket_(connect_timeout|keepalive|timeout)|ssl_(ca_certs|ca_path|cert_reqs|certfile|check_hostname|ciphers|keyfile|"
    "min_version)"
)
WITHOUT_SECRETS = f"^[^?&#@]*([?&]({_OPTIONS})=[^?&#@;]*)*$"
_WITHOUT_SECRETS = re.compile(WITHOUT_SECRETS.removesuffix("$") + r"\Z")


class Redis(Model):
    """The Redis that stores conversations, tasks and limits. Without Redis, each pod keeps its own and loses them
    when it ends."""

    rules = (
        Rule(
            cel="!(has(self.url) && has(self.secretName))",
            message="set redis.url or redis.secretName, not both: remove one of them",
            holds=lambda redis: redis.url is None or redis.secret_name is None,
        ),
        Rule(
            cel=f"!has(self.url) || self.url.matches('{WITHOUT_SECRETS}')",
            message="redis.url must not contain a password or an option that may contain one: store the address in a "
            "Secret and set redis.secretName to its name",
            holds=lambda redis: redis.url is None or _WITHOUT_SECRETS.match(redis.url) is not None,
            field="url",
        ),
    )

    url: Annotated[str, StringConstraints(pattern=r"^rediss?://[!-~]+$", min_length=1, max_length=1024)] | None = None
    """Address without a password: `redis://host:6379/0`, or `rediss://` for TLS."""
    secret_name: ObjectName | None = None
    """Name of a Secret in the same namespace that contains the address, including its password."""
    secret_key: DataKey = "REDIS_URL"  # noqa: S105  the name of a key in a Secret, not its value
    """Key inside that Secret."""

    @property
    def given(self) -> bool:
        """Whether Redis is configured."""
        return self.url is not None or self.secret_name is not None
