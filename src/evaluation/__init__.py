"""How well agents play and worlds imagine: measured, compared and shown."""
