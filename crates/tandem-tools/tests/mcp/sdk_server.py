"""An MCP server made with the official Python SDK, of generation 1 or 2.

    sdk_server.py            over standard input and output
    sdk_server.py PORT       over streamable HTTP at http://127.0.0.1:PORT/mcp

What it does is written to the file JOURNAL, one line each.
"""

import asyncio
import os
import sys
from typing import Literal

try:
    from mcp.server.mcpserver import Context, MCPServer
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else None
GENERATION_1 = MCPServer.__name__ == "FastMCP"

if GENERATION_1 and PORT:
    server = MCPServer("sdk", log_level="WARNING", host="127.0.0.1", port=PORT)
else:
    server = MCPServer("sdk", log_level="WARNING")


def journal(line: str) -> None:
    if path := os.environ.get("JOURNAL"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


@server.tool()
def find_customer(phone: str, exact: bool = True) -> dict[str, str]:
    """Finds a customer by the number they call from."""
    journal(f"find_customer {phone}")
    return {"name": "Juana García", "phone": phone, "exact": str(exact)}


@server.tool()
def opening_hours(day: Literal["today", "tomorrow"]) -> str:
    """Says when the shop is open."""
    journal(f"opening_hours {day}")
    return f"Open until six {day}."


@server.tool()
async def slow(seconds: float) -> str:
    """Takes its time."""
    journal("slow begins")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        journal("slow cancelled")
        raise
    journal("slow ends")
    return "done"


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("the database is closed")


@server.tool()
def environment() -> dict[str, str]:
    """Tells the environment."""
    return dict(os.environ)


@server.tool()
def leave() -> str:
    """Ends the server in the middle of the call."""
    journal("leave")
    os._exit(3)


def learned() -> str:
    """Was not there from the beginning."""
    return "learned"


@server.tool()
async def learn(ctx: Context) -> str:
    """Adds a tool and says so."""
    server.add_tool(learned)
    await ctx.session.send_tool_list_changed()
    if not GENERATION_1:
        await ctx.notify_tools_changed()
    return "learned"


journal(f"started {os.getpid()}")
if PORT is None:
    server.run(transport="stdio")
elif GENERATION_1:
    server.run(transport="streamable-http")
else:
    server.run(transport="streamable-http", host="127.0.0.1", port=PORT)
