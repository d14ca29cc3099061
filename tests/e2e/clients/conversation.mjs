// The official JavaScript client in a short conversation; prints what it heard as one JSON object.
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_PACKAGES + "/");
const OpenAI = require("openai").default ?? require("openai");

const client = new OpenAI({
  baseURL: process.env.GATEWAY_URL + "/v1",
  apiKey: process.env.GATEWAY_TOKEN,
  maxRetries: 0,
});
const messages = [{ role: "user", content: "hello" }];
const asked = { model: "opensoul", messages, max_tokens: 20 };

const whole = await client.chat.completions.create(asked);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
console.log(JSON.stringify({ whole: whole.choices[0].message.content, streamed }));
