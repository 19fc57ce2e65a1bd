"""Windows and films: step into a trained world model, or look through what was stored."""
