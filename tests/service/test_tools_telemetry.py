"""Spans and log lines of tool calls."""

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id

from support.mcp_servers import StartServer
from support.toolbox import entry, running_tools

OWN = ("add", "fail", "grow", "headers", "picture", "shrink", "slow", "text", "total", "who")


async def test_a_call_has_a_span_without_content_whose_context_the_server_receives(
    start_mcp: StartServer, tmp_path: Path
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    server = start_mcp()
    async with running_tools(tmp_path, entry(server), tracer=provider.get_tracer("test")) as tools:
        await tools.until(*OWN)
        await tools.call("headers")
        await tools.call("add", a=4711, b=0)
        await tools.call("fail")
        await tools.call("invented by the model")

    seen = {span.name: span for span in spans.get_finished_spans()}
    assert list(seen) == ["execute_tool headers", "execute_tool add", "execute_tool fail", "execute_tool unknown"]
    assert dict(seen["execute_tool add"].attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.call.id": "call-1",
        "gen_ai.tool.type": "extension",
        "portside.tool.server": "small",
    }
    assert (seen["execute_tool fail"].attributes or {})["error.type"] == "error"
    assert seen["execute_tool fail"].status.status_code is StatusCode.ERROR
    context = seen["execute_tool headers"].context
    received = next(call for call in server.recorded() if call["tool"] == "headers")["meta"]["traceparent"]
    assert context is not None
    assert format_span_id(context.span_id) in received


async def test_inputs_and_results_are_logged_only_when_content_is(
    start_mcp: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_mcp()
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        await tools.call("add", a=4711, b=1)
    quiet = capsys.readouterr().out
    async with running_tools(tmp_path, entry(server), logs_content=True) as tools:
        await tools.until(*OWN)
        await tools.call("add", a=4711, b=1)
    loud = capsys.readouterr().out

    assert "471" not in quiet
    assert "4711" in loud
    assert "4712" in loud
