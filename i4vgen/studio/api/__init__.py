"""The public API: four named endpoints for `gradio_client`, which the app can also offer as MCP tools.

Only finished runs outlive a call. The run store keeps each under a token, with which any client can `animate`
its candidates until the run is deleted.
"""
