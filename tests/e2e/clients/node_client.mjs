// The official JavaScript client against a running Gateway; prints what it saw as one JSON object.
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_PACKAGES + "/");
const OpenAI = require("openai").default ?? require("openai");

const client = new OpenAI({
  baseURL: process.env.GATEWAY_URL + "/v1",
  apiKey: process.env.GATEWAY_TOKEN,
  maxRetries: 0,
});
const messages = [{ role: "user", content: "hello there" }];
const seen = {};

const models = await client.models.list();
seen.models = models.data.map((model) => model.id);
seen.model = (await client.models.retrieve("opensoul/main")).id;

const answer = await client.chat.completions.create({ model: "opensoul:main", messages });
seen.answer = answer.choices[0].message.content;
seen.finish = answer.choices[0].finish_reason;

seen.streamed = "";
const stream = await client.chat.completions.create({
  model: "opensoul:main",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  seen.streamed += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) seen.total = chunk.usage.total_tokens;
}

const key = { headers: { "Idempotency-Key": "once" } };
seen.once = new Set();
for (let time = 0; time < 2; time++) {
  const again = await client.chat.completions.create({ model: "opensoul:main", messages, stream: true }, key);
  for await (const chunk of again) seen.once.add(chunk.id);
}
seen.once = seen.once.size;

try {
  await client.chat.completions.create({ model: "opensoul:nobody", messages });
} catch (error) {
  seen.unknown = [error.constructor.name, error.status, error.code, error.param];
}
try {
  await new OpenAI({ baseURL: process.env.GATEWAY_URL + "/v1", apiKey: "wrong", maxRetries: 0 }).models.list();
} catch (error) {
  seen.wrong = [error.constructor.name, error.status];
}
console.log(JSON.stringify(seen));
