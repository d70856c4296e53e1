"""Where an agent keeps its state."""

import re
from typing import Annotated

from pydantic import StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DataKey, ObjectName
from agent_operator.api.rules import Rule

# What stands in a ConfigMap must hold no secret, and an address can hold one as its userinfo, or as an option of its
# query (redis-py: `password`, `username`, `ssl_password`, also percent-encoded). So those options are listed that can
# hold none. The chart's helm/agent/templates/_validate.tpl has the same expression.
_OPTIONS = (
    "client_name|db|health_check_interval|max_connections|protocol|retry_on_timeout|timeout|"
    "socket_(connect_timeout|keepalive|timeout)|ssl_(ca_certs|ca_path|cert_reqs|certfile|check_hostname|ciphers|keyfile|"
    "min_version)"
)
WITHOUT_SECRETS = f"^[^?&#@]*([?&]({_OPTIONS})=[^?&#@;]*)*$"
_WITHOUT_SECRETS = re.compile(WITHOUT_SECRETS.removesuffix("$") + r"\Z")


class Redis(Model):
    """The Redis that holds conversations, tasks and limits. Without one each pod keeps its own, which ends with it."""

    rules = (
        Rule(
            cel="!(has(self.url) && has(self.secretName))",
            message="set redis.url or redis.secretName, not both: remove one of them",
            holds=lambda redis: redis.url is None or redis.secret_name is None,
        ),
        Rule(
            cel=f"!has(self.url) || self.url.matches('{WITHOUT_SECRETS}')",
            message="redis.url must not hold a password, nor an option that may be one: put the address into a Secret "
            "and name it in redis.secretName",
            holds=lambda redis: redis.url is None or _WITHOUT_SECRETS.match(redis.url) is not None,
            field="url",
        ),
    )

    url: Annotated[str, StringConstraints(pattern=r"^rediss?://[!-~]+$", min_length=1, max_length=1024)] | None = None
    """Address with no password in it: `redis://host:6379/0`, or `rediss://` for TLS."""
    secret_name: ObjectName | None = None
    """Name of a Secret of the same namespace that holds the address, with its password."""
    secret_key: DataKey = "REDIS_URL"  # noqa: S105  the name of a key in a Secret, not its value
    """Key inside that Secret."""

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return self.url is not None or self.secret_name is not None
