#!/usr/bin/env node
// Receives the tools of Tandem's agents. Needs nothing but Node 18.
//
//     export TANDEM_TOOLS_KEY=$(openssl rand -hex 32)      # the same for Tandem
//     node receiver.mjs --port 8080
//
// Each tool is a function below: it takes the arguments and what is known of the call, and returns what the caller is told.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const KEY = process.env.TANDEM_TOOLS_KEY ?? "";
const LONGEST_BODY = 1024 * 1024; // bytes
const OLDEST = 300; // seconds: older requests may be repeated by somebody who listened
const KEPT_ANSWERS = 10_000;

const TOOLS = {
  async leave_message(args, call) {
    console.log(`message for ${args.for_person ?? "anybody"}: ${args.message}`);
    return { status: "saved", message: `Thank you, ${args.caller_name}. I have passed that on.` };
  },
  async check_policy_status(args, call) {
    if (args.policy_number !== "P-100") {
      return { status: "not_found", message: "I can't find a policy with that number." };
    }
    return { status: "found", message: "Your policy is active until June.", renewal: "2027-06-30" };
  },
  async schedule_appointment(args, call) {
    const when = [args.date, args.time].filter(Boolean).join(" at ");
    return { status: "scheduled", message: `You are booked for ${when}.`, metadata: { booked: when } };
  },
};

function same(given, expected) {
  const [a, b] = [Buffer.from(given ?? ""), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Why a request is not from Tandem, or nothing. Compares in constant time. */
function wrongWith(headers, body) {
  if (!same(headers.authorization, `Bearer ${KEY}`)) return "the key is wrong";
  const timestamp = headers["x-webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > OLDEST) {
    return "the timestamp is too old";
  }
  const signed = createHmac("sha256", KEY).update(`${timestamp}.`).update(body).digest("hex");
  if (!same(headers["x-webhook-signature"], `sha256=${signed}`)) return "the signature is wrong";
}

/** One answer for each invocation: a request that comes twice is carried out once, also when it comes at the same time. */
const answers = new Map();

function answerOf(request) {
  let answer = answers.get(request.invocation_id);
  if (!answer) {
    answer = carryOut(request);
    answers.set(request.invocation_id, answer);
    if (answers.size > KEPT_ANSWERS) answers.delete(answers.keys().next().value);
  }
  return answer;
}

async function carryOut(request) {
  if (!Object.hasOwn(TOOLS, request.function)) {
    return [404, { status: "unavailable", message: "I can't do that here." }];
  }
  if (request.test) console.log(`a test of ${request.function}`);
  try {
    return [200, await TOOLS[request.function](request.args, request)];
  } catch (error) {
    // Whatever it is, the caller is told that something is wrong.
    console.error(`${request.function} failed:`, error);
    return [500, { status: "error" }];
  }
}

async function bodyOf(incoming) {
  const chunks = [];
  let length = 0;
  for await (const chunk of incoming) {
    length += chunk.length;
    if (length > LONGEST_BODY) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function receive(incoming) {
  if (incoming.method === "HEAD") return [200, {}]; // Tandem connects in advance.
  if (incoming.method !== "POST") return [405, { status: "error" }];
  const body = await bodyOf(incoming);
  if (!body) return [413, { status: "error" }];
  const wrong = wrongWith(incoming.headers, body);
  if (wrong) {
    console.error(`refused: ${wrong}`);
    return [401, { status: "error" }];
  }
  let request;
  try {
    request = JSON.parse(body);
  } catch {
    return [400, { status: "error" }];
  }
  if (!request?.invocation_id || !request.function || !request.args) return [400, { status: "error" }];
  return answerOf(request);
}

if (KEY.length < 16) {
  console.error("set TANDEM_TOOLS_KEY to 16 characters or more: openssl rand -hex 32");
  process.exit(1);
}
const server = createServer(async (incoming, outgoing) => {
  try {
    const [status, body] = await receive(incoming);
    const text = JSON.stringify(body);
    outgoing.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
    outgoing.end(text);
  } catch {
    incoming.destroy(); // It went away in the middle of its request.
  }
});
server.keepAliveTimeout = 120_000; // Longer than Tandem keeps an idle connection, so that none is closed while it is used.
const port = process.argv.indexOf("--port");
server.listen(port > 0 ? Number(process.argv[port + 1]) : 8080, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
