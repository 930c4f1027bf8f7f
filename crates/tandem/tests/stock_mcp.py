"""An MCP server on its standard streams that has one tool, for tests: no packages needed."""

import json
import os
import sys

TOOL = {
    "name": "find",
    "description": "Finds an article.",
    "inputSchema": {"type": "object", "required": ["article"], "properties": {"article": {"type": "string"}}},
}


def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "stock", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        text = f"{params['arguments']['article']}: 3 in {os.environ['PLACE']}"
        return {"content": [{"type": "text", "text": text}]}
    return None


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        result = answer(request["method"], request.get("params"))
        failed = {"error": {"code": -32601, "message": "Method not found"}}
        said = failed if result is None else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"]} | said), flush=True)

if "FAREWELL" in os.environ:
    with open(os.environ["FAREWELL"], "w") as file:
        file.write("its input was closed")
