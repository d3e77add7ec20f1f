"""A bundle as a service: predictions over HTTP, streams over WebSockets, many of them advanced together."""
