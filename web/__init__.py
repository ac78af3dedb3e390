"""Every wire to the outside: HTTP, WebSockets, the hub, the static page and the command line."""

PROJECT = "safelight"
