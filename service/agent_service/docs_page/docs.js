// The reference of the agent API, from its own OpenAPI document, with a form that sends each request.
// All text is inserted as text, never as HTML.
const ROOT = new URL("..", import.meta.url);
const OBJECT = "#/components/schemas/";

let objects = {};

function element(name, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...(text === undefined ? [] : [text]), ...children);
  return made;
}

function table(head, rows) {
  const line = (cells, kind) => element("tr", {}, ...cells.map((cell) => element(kind, {}, ...[cell].flat())));
  return element("table", {}, element("thead", {}, line(head, "th")), element("tbody", {}, ...rows.map((row) => line(row, "td"))));
}

/** Describes what a schema allows, as text and links to objects. */
function type(schema) {
  if (schema.$ref) {
    const name = schema.$ref.slice(OBJECT.length);
    return [element("a", { href: `#${name}`, text: name })];
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) {
    return choices.flatMap((choice, index) => [...(index ? [" or "] : []), ...type(choice)]);
  }
  if (schema.enum ?? schema.const) {
    return [(schema.enum ?? [schema.const]).map((value) => JSON.stringify(value)).join(", ")];
  }
  if (schema.type === "array") {
    return ["list of ", ...type(schema.items ?? {})];
  }
  const bounds = ["minLength", "maxLength", "minimum", "maximum", "default"].filter((key) => schema[key] !== undefined);
  const words = bounds.map((key) => `${key} ${JSON.stringify(schema[key])}`);
  return [[[schema.type ?? "any value"].flat().join(" or "), ...words].join(", ")];
}

function fields(schema) {
  const required = schema.required ?? [];
  return table(
    ["field", "value", "meaning"],
    Object.entries(schema.properties ?? {}).map(([name, field]) => [
      element("code", { text: name }),
      element("span", { class: "type" }, ...type(field), required.includes(name) ? ", required" : ""),
      field.description ?? (field.anyOf ?? []).find((choice) => choice.description)?.description ?? "",
    ]),
  );
}

/** Returns a value that the schema allows, to prefill a form. */
function example(schema) {
  const known = schema.$ref ? objects[schema.$ref.slice(OBJECT.length)] : schema;
  if (known.type !== "object") {
    return known.default ?? { string: "Hello", boolean: false, integer: 1, number: 1, array: [] }[known.type] ?? null;
  }
  const needed = Object.entries(known.properties ?? {}).filter(([name]) => known.required?.includes(name));
  return Object.fromEntries(needed.map(([name, field]) => [name, example(field)]));
}

function operation(method, path, documented) {
  const parameters = documented.parameters ?? [];
  const body = Object.values(documented.requestBody?.content ?? {})[0]?.schema;
  const parts = [element("p", { text: documented.description ?? "" })];
  if (parameters.length) {
    const rows = parameters.map((one) => [
      element("code", { text: one.name }),
      one.in,
      element("span", { class: "type" }, ...type(one.schema), one.required ? ", required" : ""),
      one.description ?? "",
    ]);
    parts.push(element("h4", { text: "Parameters" }), table(["name", "in", "value", "meaning"], rows));
  }
  if (body) {
    parts.push(element("h4", { text: "Body" }), element("p", {}, ...type(body)));
  }
  const answers = Object.entries(documented.responses).map(([status, answer]) => [
    status,
    Object.entries(answer.content ?? {}).flatMap(([kind, { schema }], index) => [
      index ? " or " : "",
      ...(schema?.$ref ? type(schema) : [kind]),
    ]),
    answer.description ?? "",
  ]);
  parts.push(element("h4", { text: "Answers" }), table(["status", "body", "meaning"], answers));
  parts.push(form(method, path, parameters, body));
  const title = element("summary", {}, element("code", { text: `${method} ${path}` }), documented.summary ?? "");
  return element("details", {}, title, ...parts);
}

function form(method, path, parameters, body) {
  const asked = parameters.filter((one) => ["path", "query", "header"].includes(one.in));
  const prefix = `${method}${path}`.replaceAll(/\W/g, "-");
  const inputs = asked.map((one, index) => element("input", { id: `${prefix}-${index}`, type: "text" }));
  const content = element("textarea", { id: `${prefix}-body`, rows: "4", spellcheck: "false" });
  content.value = body ? JSON.stringify(example(body), null, 2) : "";
  const made = element("form", { autocomplete: "off" }, element("h4", { text: "Try it" }));
  asked.forEach((one, index) => made.append(element("label", { for: `${prefix}-${index}`, text: one.name }), inputs[index]));
  if (body) {
    made.append(element("label", { for: `${prefix}-body`, text: "Body" }), content);
  }
  const result = element("pre", { "aria-live": "polite" });
  result.hidden = true;
  made.append(element("button", { type: "submit", text: "Send" }), result);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    result.hidden = false;
    result.textContent = "";
    try {
      const given = asked.map((one, index) => ({ ...one, value: inputs[index].value })).filter((one) => one.value);
      await send(method, path, given, body && content.value, (text) => result.append(text));
    } catch (error) {
      result.append(`\n${error.message}`);
    }
  });
  return made;
}

async function send(method, path, given, body, show) {
  const of = (place) => given.filter((one) => one.in === place);
  const filled = of("path").reduce((text, one) => text.replace(`{${one.name}}`, encodeURIComponent(one.value)), path);
  const url = new URL(filled.slice(1), ROOT);
  of("query").forEach((one) => url.searchParams.append(one.name, one.value));
  const headers = Object.fromEntries(of("header").map((one) => [one.name, one.value]));
  const key = document.getElementById("key").value.trim();
  if (key) {
    headers.Authorization = `Bearer ${key}`;
  }
  if (body) {
    headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(url, { method, headers, ...(body && { body }) });
  show(`${answer.status} ${answer.statusText}\n\n`);
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader.read()) {
    show(piece.value);
  }
}

async function main() {
  const answer = await fetch(new URL("openapi.json", ROOT));
  if (!answer.ok) {
    throw new Error(`The agent answered ${answer.status} for its OpenAPI document.`);
  }
  const documented = await answer.json();
  objects = documented.components?.schemas ?? {};
  document.getElementById("version").textContent = documented.info.version;
  document.getElementById("description").textContent = documented.info.description ?? "";
  const made = Object.entries(documented.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]) => operation(method.toUpperCase(), path, one)),
  );
  document.getElementById("operations").append(...made);
  const sections = Object.entries(objects).map(([name, schema]) =>
    element("section", { class: "object", id: name }, element("h3", { text: name }), element("p", { text: schema.description ?? "" }), fields(schema)),
  );
  document.getElementById("objects").append(...sections);
}

document.getElementById("key-form").addEventListener("submit", (event) => event.preventDefault());
main().catch((error) => {
  const problem = document.getElementById("problem");
  problem.hidden = false;
  problem.textContent = error.message;
});
