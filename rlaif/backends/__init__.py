"""Models behind one seam: a backend answers a request, or raises `BackendError`.

`registry` opens the backend of an address (`openai/NAME`, `server/NAME`, `scripted/FILE`, …).
Behavior is added by wrapping: `RetryingBackend(LimitedBackend(provider, 64))`.
"""
