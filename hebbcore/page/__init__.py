"""The page of `hebbcore label`: a server that shows photos, takes labels, and learns from them meanwhile.

Serving needs Starlette and uvicorn (extra "label"); nothing else of hebbcore imports them.
"""
