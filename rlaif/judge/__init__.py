"""Judges: render a request, await the backend, read the reply. Rendering and reading are pure."""
