// Asks an agent through Vercel's AI SDK, and prints what the SDK returns as one JSON object.
// The argument is JSON: `url`, `key`, `api` (`chat` or `responses`), `stream`, and the arguments of the SDK's function.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, streamText, tool } from "ai";

const { url, key, api, stream, tools, ...asked } = JSON.parse(process.argv[2]);
const settings = { name: "agent", baseURL: `${url}/v1`, apiKey: key };
const provider =
  api === "responses" ? createOpenAI(settings) : createOpenAICompatible({ ...settings, includeUsage: true });
const options = { model: provider("agent"), maxRetries: 0, ...asked };
if (tools) {
  options.tools = Object.fromEntries(
    tools.map(({ name, description, schema }) => [name, tool({ description, inputSchema: jsonSchema(schema) })]),
  );
}

function failed(error) {
  const cause = APICallError.isInstance(error) ? error : error?.cause;
  return { error: { name: error.name, message: error.message, status: cause?.statusCode, body: cause?.responseBody } };
}

async function whole() {
  const { text, finishReason, usage, toolCalls, response } = await generateText(options);
  return { text, finishReason, usage, toolCalls, messages: response.messages };
}

async function streamed() {
  const parts = [];
  const result = streamText({ ...options, onError: () => {} });
  for await (const part of result.fullStream) {
    if (part.type === "error") return { parts, ...failed(part.error) };
    parts.push(part.type);
  }
  return {
    parts,
    text: await result.text,
    finishReason: await result.finishReason,
    usage: await result.usage,
    toolCalls: await result.toolCalls,
  };
}

const answer = await (stream ? streamed() : whole()).catch(failed);
console.log(JSON.stringify(answer));
