// The sibling Gateway's public Node client against a running Gateway; prints what it saw as JSON.
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_PACKAGES + "/");
if (typeof globalThis.WebSocket === "undefined") globalThis.WebSocket = require("ws");
const { OpenClawClient } = require("openclaw-node");

const url = process.env.GATEWAY_URL.replace("http", "ws");
const client = new OpenClawClient({ url, token: process.env.GATEWAY_TOKEN, autoReconnect: false });
const seen = { chunks: [] };

await client.connect();
seen.connected = client.isConnected;
let text = "";
for await (const chunk of client.chat("hello", { agentId: "main" })) {
  seen.chunks.push(chunk.type);
  if (chunk.type === "text") text += chunk.text;
}
seen.text = text;
seen.whole = await client.chatSync("hello again", { agentId: "main" });
const listed = await client.sessions.list({ limit: 10 });
seen.sessions = (listed.sessions ?? listed).map((session) => session.key);
await client.disconnect();

// Once more, as a process that comes back would.
const again = new OpenClawClient({ url, token: process.env.GATEWAY_TOKEN, autoReconnect: false });
await again.connect();
seen.again = await again.chatSync("and again", { agentId: "main" });
await again.disconnect();

// Another device, for the one above is paired and would be let in by its own token.
const stranger = new OpenClawClient({
  url,
  token: "wrong",
  autoReconnect: false,
  deviceIdentityPath: process.env.HOME + "/stranger.json",
});
try {
  await stranger.connect();
  seen.stranger = "was let in";
} catch (error) {
  seen.stranger = String(error.message ?? error);
}
console.log(JSON.stringify(seen));
process.exit(0);
