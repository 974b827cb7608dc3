"""What the server offers over HTTP, for programs (`/openapi.json`) and people (`/docs`).

Kept by hand and held by tests: every route is in it, and every answer has the shape that it states.
"""
