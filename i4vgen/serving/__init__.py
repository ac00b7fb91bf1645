"""Server-wide services: runtimes, queues, limits, time estimates and ASGI middleware."""
