"""Token counts as the Messages API reports them. Pure."""

from typing import Any

from agent_service.agent.messages import Usage

# Ten times today's largest context window. A larger count is wrong.
_MOST_TOKENS = 10_000_000


def count(usage: Usage, reported: object) -> bool:
    """Record the plausible token counts of a usage object; return whether output is among them."""
    # "Total input tokens in a request is the summation" of the three (SDK, types/usage.py). They are kept apart
    # because an event may carry one and leave the others unchanged.
    counts: dict[str, Any] = reported if isinstance(reported, dict) else {}
    usage.uncached_tokens = plausible(counts.get("input_tokens")) or usage.uncached_tokens
    usage.cache_write_tokens = plausible(counts.get("cache_creation_input_tokens")) or usage.cache_write_tokens
    usage.cache_read_tokens = plausible(counts.get("cache_read_input_tokens")) or usage.cache_read_tokens
    output = plausible(counts.get("output_tokens"))
    usage.output_tokens = output or usage.output_tokens
    return output > 0


def plausible(value: object) -> int:
    """Return a token count; 0 for a value that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if not 0 < value <= _MOST_TOKENS or value != int(value):
        return 0
    return int(value)
