"""Senders of one-time codes: how a message leaves the server. A sender raises to say that it could not deliver."""
