"""`GET /usage`, `/usage/clients` and `/usage/history`: what clients have used, for themselves and for chargeback."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, Field

from agent_service.auth.identity import ANYONE, name_of, tenant_of
from agent_service.components import Components
from agent_service.limits.budget import Account, Spent
from agent_service.limits.shares import CLIENT, TENANT
from agent_service.limits.terms import Terms
from agent_service.routes.dependencies import ComponentsDep, owner
from agent_service.routes.errors import describe

router = APIRouter(prefix="/usage", tags=["usage"])

_NO_CLIENTS = "This agent has no client keys, so it cannot distinguish its callers: it counts no usage by client."
_NOT_A_READER = "This client may read its own usage only (GET /usage); all usage is for the clients in USAGE_READERS."


class Used(BaseModel):
    """Usage in a period, and its limits; null where there is none."""

    tokens: int = Field(description="Tokens sent and received.")
    cost: float = Field(description="Cost by the configured prices; 0 without prices.")
    limit_tokens: int | None = None
    limit_cost: float | None = None


class Usage(BaseModel):
    """Answer of `GET /usage`."""

    period: str = Field(description="The current period (UTC): `2026-11`, or `2026-11-23` for daily budgets.")
    client: str = Field(description="Name of the client: that of its key, or the one in its token.")
    tenant: str | None = Field(description="Tenant of the client.")
    complete: bool = Field(description="Whether this is the usage of all pods: false while Redis cannot be reached.")
    used: Used
    used_by_tenant: Used | None = Field(description="Usage of all clients of the tenant.")


class Row(Used):
    """The usage of one client or tenant."""

    kind: str = Field(description="`client` or `tenant`. The usage of a client is part of that of its tenant.")
    id: str = Field(description="Id of the client, which stays when it is renamed; the name of the tenant.")
    name: str


class AllUsage(BaseModel):
    """Answer of `GET /usage/clients`."""

    period: str
    usage: list[Row]


class HistoryRow(BaseModel):
    """The usage of one client in the days of the answer."""

    id: str = Field(
        description="Id of the client, which stays when it is renamed; `other` for clients beyond a thousand a day, "
        "`anyone` for calls whose client is not known."
    )
    name: str
    tenant: str | None
    requests: int = Field(description="Turns of the agent, those that failed included.")
    input_tokens: int = Field(description="Tokens sent to the model, without those of its cache.")
    output_tokens: int = Field(description="Tokens received from the model.")
    cache_read_tokens: int = Field(description="Tokens sent that the model API read from its cache.")
    cache_write_tokens: int = Field(description="Tokens sent that the model API wrote to its cache.")
    cost: float | None = Field(description="Cost by the prices at the time of each call; null without prices.")


class UsageHistory(BaseModel):
    """Answer of `GET /usage/history`."""

    since: date = Field(description="The first day (UTC): the one asked for, or the earliest that is kept.")
    until: date = Field(description="The last day.")
    store: str = Field(description="Id of the state: pods with one id share it, and answer the same.")
    usage: list[HistoryRow]


@router.get("", responses=describe(403, 429))
async def own(request: Request, components: ComponentsDep) -> Usage:
    """Return what the caller has used in the current period."""
    caller = owner(request)
    if caller == ANYONE:
        raise HTTPException(403, _NO_CLIENTS)
    shares = components.limits.shares
    accounts = await shares.used(caller)
    return Usage(
        period=accounts[0].period,
        client=request.scope["portside.client"].shown,
        tenant=tenant_of(caller),
        complete=all(account.known for account in accounts),
        used=_used(accounts[0].spent, shares.terms[CLIENT]),
        used_by_tenant=_used(accounts[1].spent, shares.terms[TENANT]) if len(accounts) > 1 else None,
    )


@router.get("/clients", responses=describe(403, 422, 429, 503))
async def of_all(
    request: Request,
    components: ComponentsDep,
    period: Annotated[
        str | None,
        Query(pattern=r"^[0-9]{4}-[0-9]{2}(-[0-9]{2})?$", description="An earlier period, up to 7 days after its end."),
    ] = None,
) -> AllUsage:
    """Return what all clients and tenants have used in a period, by default the current one."""
    _check_reader(request, components)
    shares = components.limits.shares
    of_agent: Account = components.limits.budget.account()
    named = period or of_agent.period
    rows = [
        Row(
            kind=share.kind,
            id=share.id,
            name=name_of(share.id) if share.kind == CLIENT else share.id,
            **_used(share.spent, shares.terms[share.kind]).model_dump(),
        )
        for share in await shares.all(named)
    ]
    return AllUsage(period=named, usage=rows)


@router.get("/history", responses=describe(403, 422, 429, 503))
async def history(
    request: Request,
    components: ComponentsDep,
    since: Annotated[date | None, Query(description="First day (UTC), such as `2026-11-01`; by default today.")] = None,
    until: Annotated[date | None, Query(description="Last day; by default today.")] = None,
) -> UsageHistory:
    """Return what all clients have used from one day to another, up to `USAGE_HISTORY_DAYS` ago."""
    _check_reader(request, components)
    kept = components.limits.history
    last = min(until or kept.today, kept.today)
    first = max(since or last, kept.first_day)
    found = await kept.read(first, last) if first <= last else {}
    rows = [
        HistoryRow(
            id=client,
            name=name_of(client),
            tenant=tenant_of(client),
            requests=used.requests,
            input_tokens=used.input,
            output_tokens=used.output,
            cache_read_tokens=used.cache_read,
            cache_write_tokens=used.cache_write,
            cost=used.money if kept.priced or used.cost else None,
        )
        for client, used in sorted(found.items())
    ]
    return UsageHistory(since=first, until=last, store=await kept.store(), usage=rows)


def _check_reader(request: Request, components: Components) -> None:
    if owner(request) not in components.settings.usage_readers:
        raise HTTPException(403, _NOT_A_READER)


def _used(spent: Spent, terms: Terms) -> Used:
    return Used(
        tokens=spent.tokens,
        cost=spent.money,
        limit_tokens=terms.tokens or None,
        limit_cost=float(terms.cost) or None,
    )
