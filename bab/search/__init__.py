"""The loop of branch and bound, whatever the kind of tree: when to do what, what is known, who watches."""
