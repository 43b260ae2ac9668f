"""Servers of OpenAI's completions under load: our own client, a soak, a comparison, and a judge that others wrote."""
