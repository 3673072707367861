"""A world to chat and walk in: `world` is the game, `demo` runs it with bots, `play` is a client."""
