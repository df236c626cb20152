"""How a base scores answers: one scorer an architecture, the same for training, evaluation and the engine."""
