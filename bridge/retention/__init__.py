"""How long traffic data is kept, why, and the proof that it went."""
