"""Networks as graphs: nodes, operators, activations, and what is exact or rounded in them."""
