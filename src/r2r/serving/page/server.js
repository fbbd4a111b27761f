// The server's API: what it offers, and answers as they are written.

const $ = (id) => document.getElementById(id);

function request(path, options = {}) {
  const key = $("key").value;
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  return fetch(path, { ...options, headers: { ...headers, ...options.headers } });
}

async function refusal(response) {
  if (response.status === 401) $("key-field").hidden = false;
  const body = await response.json().catch(() => null);
  return new Error(body?.error?.message ?? `the server answered ${response.status}`);
}

export async function offered() {
  const response = await request("/v1/models");
  if (!response.ok) throw await refusal(response);
  return (await response.json()).data[0];
}

// Yields the JSON of each server-sent event.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      yield JSON.parse(line.slice(6));
    }
  }
}

// Streams an answer: yields {tokens, reasoning, content, finish, usage} with what is new. A token is
// as the API's trace has it; `reasoning`: some of them belong to the thinking; `content`: the text
// of those that do not.
export async function* answered(body, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      ...body, stream: true, return_trace: true, stream_options: { include_usage: true },
    }),
    signal,
  });
  if (!response.ok) throw await refusal(response);
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Error(chunk.error.message);
    const choice = chunk.choices[0];
    yield {
      tokens: choice?.trace ?? [],
      reasoning: Boolean(choice?.delta?.reasoning_content),
      content: choice?.delta?.content ?? "",
      finish: choice?.finish_reason ?? null,
      usage: chunk.usage ?? null,
    };
  }
}
