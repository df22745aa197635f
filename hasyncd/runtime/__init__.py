"""The asyncio shell: performs what the core decides and tells it what happened."""
